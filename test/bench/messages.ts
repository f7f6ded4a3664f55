/**
 * How long a call takes, within a process and between two, and how fast tensors move. `npm run bench -- messages [--json] [--write]`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Ref } from "../../runtime/actor/definition.ts";
import { createActorSystem } from "../../runtime/actor/system.ts";
import { createLane, laneNames } from "../../runtime/parallel/lanes.ts";
import { allocate, fence } from "../../runtime/tensor/index.ts";
import { createSocketFolder } from "../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../runtime/transport/zeromq.ts";
import { echo } from "../runtime/actor/echo-actor.ts";
import { keep, report, rounded } from "./report.ts";

type Echo = Ref<typeof echo.endpoints>;

/** Microseconds of each of `count` calls made one after the other. */
async function roundTrips(what: string, count: number, call: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count / 10; i++) await call();
  const us: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await call();
    us.push(1000 * (performance.now() - start));
  }
  us.sort((a, b) => a - b);
  const at = (q: number): number => rounded(us[Math.floor(q * (us.length - 1))]);
  report({ case: `messages/${what}`, value: at(0.5), unit: "us", p90: at(0.9), p99: at(0.99), max: at(1), count });
}

async function throughput(what: string, count: number, ref: Echo): Promise<void> {
  const start = performance.now();
  for (let begun = 0; begun < count; begun += 500) await Promise.all(Array.from({ length: 500 }, () => ref.add.call(1)));
  report({ case: `messages/${what}`, value: count / ((performance.now() - start) / 1000), unit: "calls/s", count });
}

const folder = createSocketFolder();
const transport = createZeromqTransport({ node: "bench", folder: folder.path });
const system = createActorSystem({ node: "bench", transport });
const program = fileURLToPath(new URL("../runtime/actor/echo-process.ts", import.meta.url));
const child = spawn(process.execPath, ["--import", "tsx", "--conditions=source", program, "child", folder.path, "bench"], { stdio: "inherit" });
await transport.connect("child");
const near = await system.spawn(echo, undefined);
const far = system.remote(echo, "child");

await roundTrips("call within a process", 20_000, () => near.add.call(1));
await roundTrips("call between two processes", 10_000, () => far.add.call(1));
const megabyte = new Uint8Array(2 ** 20);
await roundTrips("call with 1 MiB attached, between two processes", 500, () => far.told.call(undefined, { attachments: [megabyte] }));
await throughput("calls in flight, within a process", 100_000, near);
await throughput("calls in flight, between two processes", 50_000, far);

// One hop of a microbatch's activations, B T D = 4 320 96 and a larger one; both ends are in this process, so the way of the message itself is not in it.
for (const shape of [[4, 320, 96], [4, 2048, 512]]) {
  const x = allocate(shape);
  await fence();
  for (const name of laneNames) {
    const [a, b] = [createLane(name, { node: "a" }), createLane(name, { node: "b" })];
    const bytes = 4 * shape.reduce((p, n) => p * n, 1);
    const start = performance.now();
    for (let i = 0; i < 40; i++) {
      const { descriptors, attachments } = await a.send({ x });
      const { tensors, done } = await b.receive(descriptors, attachments);
      a.release(await done);
      await fence();
      tensors.x.dispose();
    }
    const ms = (performance.now() - start) / 40;
    report({ case: `messages/lane ${name}, ${shape.join(" ")} f32`, value: bytes / ms / 1e6, unit: "GB/s", msPerHop: rounded(ms) });
    a.close();
    b.close();
  }
  x.dispose();
}

await system.stop();
await once(child, "exit");
folder.remove();
keep("messages", "Calls and lanes: how long a message takes, how fast tensors move");

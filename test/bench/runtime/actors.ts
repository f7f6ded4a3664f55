/**
 * How long a call takes, within a process and between two, and how many fit into a second. The raw ping-pong is what zeromq.js and msgpackr take
 * for the same 64 bytes there and back; both go in turns, so that a busy machine is busy for both.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Packr } from "msgpackr";
import { Dealer } from "zeromq";
import type { Ref } from "../../../runtime/actor/definition.ts";
import { createActorSystem } from "../../../runtime/actor/system.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { echo } from "../../runtime/actor/echo-actor.ts";
import { report, rounded } from "../report.ts";

/** The bars: a call takes at most so many times the raw ping-pong; so many calls a second fit through one pair. */
const [mostTimesRaw, leastCallsPerSecond] = [1.3, 20_000];
const blocks = 30, perBlock = 300;
const words64 = "a page of 64 bytes, as long as this sentence that fills it up...";

export async function measure(): Promise<void> {
  const folder = createSocketFolder();
  const transport = createZeromqTransport({ node: "bench", folder: folder.path });
  const system = createActorSystem({ node: "bench", transport });
  const child = program("../../runtime/actor/echo-process.ts", ["child", folder.path, "bench"]);
  const raw = await startRaw(join(folder.path, "raw.sock"));
  await transport.connect("child");
  const near = await system.spawn(echo, undefined), far = system.remote(echo, "child");

  await againstRaw(raw.ping, far);
  await roundTrips("call within a process", 20_000, () => near.add.call(1));
  const megabyte = new Uint8Array(2 ** 20);
  await roundTrips("call with 1 MiB attached", 500, () => far.told.call(undefined, { attachments: [megabyte] }));
  await throughput("calls in flight, within a process", 100_000, near);
  await throughput("calls in flight, one pair of processes", 50_000, far, leastCallsPerSecond);

  await raw.end();
  await system.stop();
  await once(child, "exit");
  folder.remove();
}

const program = (path: string, args: string[]) =>
  spawn(process.execPath, ["--import", "tsx", "--conditions=source", fileURLToPath(new URL(path, import.meta.url)), ...args], { stdio: "inherit" });

async function startRaw(path: string): Promise<{ ping(): Promise<void>; end(): Promise<void> }> {
  const socket = new Dealer({ linger: 0 }), packr = new Packr({ useRecords: false });
  await socket.bind(`ipc://${path}`);
  const child = program("../peers/raw-ping.ts", [`ipc://${path}`]);
  return {
    async ping() {
      await socket.send(packr.pack(words64));
      const [frame] = await socket.receive();
      if (packr.unpack(frame) !== words64) throw new Error("the raw ping came back changed");
    },
    async end() {
      socket.close();
      await once(child, "exit");
    },
  };
}

async function againstRaw(ping: () => Promise<void>, far: Ref<typeof echo.endpoints>): Promise<void> {
  const call = (): Promise<unknown> => far.same.call(words64);
  const us = { raw: [] as number[], actor: [] as number[] };
  for (let block = 0; block < blocks; block++) {
    const warm = block >= blocks / 6;
    for (const [kind, one] of [["raw", ping], ["actor", call]] as const) us[kind].push(...(await timed(perBlock, one)).slice(warm ? 0 : perBlock));
  }
  const [raw, actor] = [quantiles(us.raw), quantiles(us.actor)];
  report({ case: "runtime/actors/raw ping-pong of 64 B, two processes", value: raw.p50, unit: "us", ...raw, count: us.raw.length });
  report({ case: "runtime/actors/call and reply of 64 B, two processes", value: actor.p50, unit: "us", ratio: actor.p50 / raw.p50, bar: mostTimesRaw, ok: actor.p50 <= mostTimesRaw * raw.p50, ...actor, count: us.actor.length });
}

async function roundTrips(what: string, count: number, call: () => Promise<unknown>): Promise<void> {
  await timed(count / 10, call);
  const found = quantiles(await timed(count, call));
  report({ case: `runtime/actors/${what}`, value: found.p50, unit: "us", ...found, count });
}

async function throughput(what: string, count: number, ref: Ref<typeof echo.endpoints>, bar?: number): Promise<void> {
  const start = performance.now();
  for (let begun = 0; begun < count; begun += 500) await Promise.all(Array.from({ length: 500 }, () => ref.add.call(1)));
  const value = count / ((performance.now() - start) / 1000);
  report({ case: `runtime/actors/${what}`, value, unit: "calls/s", count, ...(bar === undefined ? {} : { bar, ok: value >= bar }) });
}

/** Microseconds of each of `count` made one after the other. */
async function timed(count: number, one: () => Promise<unknown>): Promise<number[]> {
  const us: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await one();
    us.push(1000 * (performance.now() - start));
  }
  return us;
}

function quantiles(us: readonly number[]): { p50: number; p90: number; p99: number; max: number } {
  const sorted = [...us].sort((a, b) => a - b);
  const at = (q: number): number => rounded(sorted[Math.floor(q * (sorted.length - 1))]);
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

/**
 * Lanes between two processes, 16 MB tensors: what the lane adds to a copy, and to none.
 *
 * copied in: eight tensors take turns (128 MB), up to eight are on their way; against one thread that copies between the same number of tensors.
 * born in the slab: from the call of `send` until the receiver has the tensor, by the clock that both processes share.
 * ucx: the receiver fetches eight tensors in turn, one after the other; against `ucx_perftest -t ucp_get` of the same size in the same run.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type RefOf } from "../../../runtime/actor/definition.ts";
import { createActorSystem } from "../../../runtime/actor/system.ts";
import { native } from "../../../runtime/native.ts";
import { type Lane, createLane } from "../../../runtime/parallel/lanes/lanes.ts";
import { SlabArena } from "../../../runtime/parallel/lanes/slab-arena.ts";
import { type Tensor, allocate, assign, configureDevice, fence, full } from "../../../runtime/tensor/index.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { lanePeer } from "../peers/lane-peer.ts";
import { median, report, rounded, say } from "../report.ts";

const [floats, turns, transfers, rounds] = [4 * 2 ** 20, 8, 48, 3];
const bytes = 4 * floats;

type Far = RefOf<typeof lanePeer>;

export async function measure(): Promise<void> {
  const folder = createSocketFolder();
  const transport = createZeromqTransport({ node: "parent", folder: folder.path });
  const system = createActorSystem({ node: "parent", transport });
  const child = spawn(process.execPath, ["--import", "tsx", "--conditions=source", fileURLToPath(new URL("../peers/lane-peer.ts", import.meta.url)), folder.path], { stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  await transport.connect("child");
  const far = system.remote(lanePeer, "child");
  const before = native().info().threads;
  await fence();
  configureDevice({ threads: 1 });
  try {
    await copiedIn(far);
    await bornInTheSlab(far);
    await ucx(far);
  } finally {
    await fence();
    configureDevice({ threads: before });
    await system.stop();
    await exited;
    folder.remove();
  }
}

/** Bytes per second of one thread, over as many tensors in turn. */
async function memcpyRate(from: readonly Tensor[], to: readonly Tensor[]): Promise<number> {
  for (let i = 0; i < turns; i++) assign(from[i], to[i]);
  await fence();
  const begun = performance.now();
  for (let i = 0; i < transfers; i++) assign(from[i % turns], to[i % turns]);
  await fence();
  return (transfers * bytes) / ((performance.now() - begun) / 1000);
}

async function copiedIn(far: Far): Promise<void> {
  const from = Array.from({ length: turns }, (_, i) => full([floats], i));
  const lane = createLane("shared-memory", { node: "parent", slabs: { slabBytes: 160 * 2 ** 20 } });
  await passOn(far, lane, from, turns);
  const [lanes, copies]: number[][] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const to = from.map(() => allocate([floats]));
    copies.push(await memcpyRate(from, to));
    for (const tensor of to) tensor.dispose();
    const begun = performance.now();
    await passOn(far, lane, from, transfers);
    lanes.push((transfers * bytes) / ((performance.now() - begun) / 1000));
  }
  lane.close();
  for (const tensor of from) tensor.dispose();
  const [rate, copy] = [median(lanes), median(copies)];
  report({ case: "runtime/lanes/shared-memory, 16 MB copied in", value: rate / 1e9, unit: "GB/s", ratio: rate / copy, bar: 0.8, ok: rate >= 0.8 * copy, memcpy: `${rounded(copy / 1e9)} GB/s` });
}

/** Sends tensors in turn, two at a time under way to the slab, at most `turns` with the receiver. */
async function passOn(far: Far, lane: Lane, from: readonly Tensor[], count: number): Promise<void> {
  const going: Promise<void>[] = [];
  let next = 0;
  const sender = async (): Promise<void> => {
    while (next < count) {
      const i = next++;
      if (going.length >= turns) await going[going.length - turns];
      const { descriptors } = await lane.send({ x: from[i % turns] });
      going.push(far.take.call({ descriptors, look: i === count - 1 }).then(({ leases, last }) => {
        lane.release(leases);
        if (i === count - 1 && last !== i % turns) throw new Error(`the last element is ${last}, expected ${i % turns}`);
      }));
    }
  };
  await Promise.all([sender(), sender()]);
  await Promise.all(going);
}

async function bornInTheSlab(far: Far): Promise<void> {
  const arena = new SlabArena("parent", { slabBytes: 2 ** 20 });
  const lane = createLane("shared-memory", { node: "parent", arena });
  for (const [label, size] of [["64 KB", 2 ** 14], ["16 MB", floats], ["1 GB", 2 ** 28]] as const) {
    const x = arena.allocate([size]);
    await fence();
    const us: number[] = [];
    for (let i = 0; i < 100; i++) {
      const begun = process.hrtime.bigint();
      const { descriptors } = await lane.send({ x });
      const { at, leases } = await far.take.call({ descriptors, look: false });
      lane.release(leases);
      if (i >= 20) us.push(Number(BigInt(at) - begun) / 1000);
    }
    x.dispose();
    await fence();
    report({ case: `runtime/lanes/shared-memory, ${label} born in the slab`, value: median(us), unit: "us", bar: 300, ok: median(us) <= 300 });
  }
  lane.close();
  arena.close();
}

async function ucx(far: Far): Promise<void> {
  const { usable, reason } = native().ucxInfo();
  if (!usable) return say(`runtime/lanes/ucx: not measured, ${reason}: sudo apt-get install libucx-dev, then npm run setup`);
  const arena = new SlabArena("parent", { slabBytes: 160 * 2 ** 20, memory: "ucx" });
  const lane = createLane("ucx", { node: "parent", arena });
  const from = Array.from({ length: turns }, () => arena.allocate([floats]));
  for (const tensor of from) tensor.write(new Float32Array(floats).fill(7));
  const fetch = async (tensor: Tensor, look = false): Promise<number> => {
    const { descriptors } = await lane.send({ tensor });
    const { took, leases, last } = await far.take.call({ descriptors, look });
    lane.release(leases);
    if (look && last !== 7) throw new Error(`the last element is ${last}, expected 7`);
    return took;
  };
  for (const tensor of from) await fetch(tensor, true);
  const [lanes, tests]: number[][] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const test = await perftest();
    if (test !== undefined) tests.push(test);
    let ms = 0;
    for (let i = 0; i < transfers; i++) ms += await fetch(from[i % turns]);
    lanes.push((transfers * bytes) / (ms / 1000));
  }
  for (const tensor of from) tensor.dispose();
  lane.close();
  await fence();
  arena.close();
  const rate = median(lanes), name = { case: "runtime/lanes/ucx, 16 MB fetched", value: rate / 1e9, unit: "GB/s" };
  if (tests.length === 0) return report({ ...name, note: "no ucx_perftest to compare with: sudo apt-get install ucx-utils" });
  const test = median(tests);
  report({ ...name, ratio: rate / test, bar: 0.8, ok: rate >= 0.8 * test, "ucx_perftest": `${rounded(test / 1e9)} GB/s` });
}

/** Bytes per second of `ucx_perftest -t ucp_get` between two processes of its own; undefined where it is not installed. */
async function perftest(): Promise<number | undefined> {
  if (spawnSync("ucx_perftest", ["-h"]).error) return undefined;
  const port = String(20_000 + (process.pid % 20_000));
  const args = ["-t", "ucp_get", "-s", String(bytes), "-n", "60", "-w", "8", "-p", port, "-f"];
  const server = spawn("stdbuf", ["-oL", "ucx_perftest", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  await listening(server);
  const client = spawnSync("ucx_perftest", ["127.0.0.1", ...args], { encoding: "utf8" });
  const ended = server.exitCode === null ? once(server, "exit") : undefined;
  server.kill();
  await ended;
  // the last line: iterations, latency (typical, average, overall) in us, bandwidth (average, overall) in MB/s, message rate
  const numbers = client.stdout.trim().split("\n").at(-1)!.trim().split(/\s+/).map(Number).filter((x) => !Number.isNaN(x));
  if (client.status !== 0 || numbers.length < 6) throw new Error(`ucx_perftest: ${client.stdout}${client.stderr}`);
  return numbers.at(-3)! * 2 ** 20;
}

/** It says so on standard output, which stays open: it writes more. */
function listening(server: ChildProcess): Promise<void> {
  return new Promise((ready) => server.stdout!.on("data", (chunk: Buffer) => void (chunk.includes("Waiting for connection") && ready())));
}

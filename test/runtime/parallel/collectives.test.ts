import assert from "node:assert/strict";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { setTimeout as passed } from "node:timers/promises";
import { RuntimeError } from "../../../runtime/errors.ts";
import { GradientTree } from "../../../runtime/autograd/gradient-tree.ts";
import { joinGroup, offerGroup } from "../../../runtime/parallel/collectives.ts";
import { type DType, type HostArray, type Shape, bytesPerElement, fromArray, sizeOf, toHostArray } from "../../../runtime/tensor/index.ts";
import type { Call } from "./collective-bodies.ts";
import { valuesOf } from "./collective-values.ts";
import { type GroupProcesses, startGroup } from "./group-processes.ts";

const module = new URL("./collective-bodies.ts", import.meta.url);
const summed: DType[] = ["f32", "f64", "bf16", "i32", "i64"];

/** The canonical sum, by the tree of microbatches: f32 and f64 through it, integers exactly, bf16 in f32 and rounded once. */
async function treeSum(dtype: DType, parts: HostArray[]): Promise<HostArray> {
  const integer = dtype === "i32" || dtype === "i64";
  if (integer) return toHostArray(Array.from({ length: parts[0].length }, (_, i) => wrapped(dtype, parts.reduce((sum, part) => sum + BigInt(part[i]), 0n))) as number[], dtype);
  const tree = new GradientTree(parts.length);
  for (const [rank, part] of parts.entries()) {
    const tensor = fromArray(part, [part.length], dtype);
    const wide = dtype === "bf16" ? fromArray(Float32Array.from(await tensor.readNumbers()), [part.length]) : tensor;
    if (wide !== tensor) tensor.dispose();
    tree.push(rank, new Map([["x", wide]]));
  }
  const sum = tree.result().get("x")!;
  const result = dtype === "bf16" ? rounded(await sum.readNumbers()) : sum.read();
  try {
    return await result;
  } finally {
    sum.dispose();
  }
}

async function rounded(values: ArrayLike<number>): Promise<HostArray> {
  const tensor = fromArray(Float32Array.from(values), [values.length], "bf16");
  try {
    return await tensor.read();
  } finally {
    tensor.dispose();
  }
}

const wrapped = (dtype: DType, sum: bigint): number | bigint => (dtype === "i32" ? Number(BigInt.asIntN(32, sum)) : BigInt.asIntN(64, sum));

/** The part of an array (rows, n) that part `p` of `parts` along the columns is. */
function columns(data: HostArray, rows: number, p: number, parts: number): HostArray {
  const width = data.length / rows, part = width / parts;
  return (data as Float32Array).filter((_, i) => Math.floor((i % width) / part) === p) as HostArray;
}

/** All parts side by side along the columns. */
function sideBySide(parts: HostArray[], rows: number): HostArray {
  const width = parts[0].length / rows;
  const result = new (parts[0].constructor as Float32ArrayConstructor)(parts[0].length * parts.length);
  parts.forEach((part, p) => {
    for (let i = 0; i < part.length; i++) result[Math.floor(i / width) * width * parts.length + p * width + (i % width)] = part[i] as number;
  });
  return result;
}

const rowsBefore = (shape: Shape, axis: number): number => sizeOf(shape.slice(0, axis < 0 ? axis + shape.length : axis));

async function expected({ op, dtype, shape, argument = op === "rotate" ? 1 : 0 }: Call, i: number, size: number): Promise<HostArray[]> {
  const parts = Array.from({ length: size }, (_, rank) => valuesOf(dtype, shape, rank, i));
  const rows = rowsBefore(shape, argument), ranks = [...parts.keys()];
  switch (op) {
    case "allReduce": return treeSum(dtype, parts).then((sum) => ranks.map(() => sum));
    case "reduce": return treeSum(dtype, parts).then((sum) => ranks.map((rank) => (rank === argument ? sum : parts[rank])));
    case "broadcast": return ranks.map(() => parts[argument]);
    case "allGather": return ranks.map(() => sideBySide(parts, rows));
    case "reduceScatter": return treeSum(dtype, parts).then((sum) => ranks.map((rank) => columns(sum, rows, rank, size)));
    case "allToAll": return ranks.map((rank) => sideBySide(parts.map((part) => columns(part, rows, rank, size)), rows));
    case "rotate": return ranks.map((rank) => parts[(((rank - argument) % size) + size) % size]);
  }
}

/** Runs the calls and compares every bit of every member. */
export async function check(group: GroupProcesses, size: number, list: Call[]): Promise<void> {
  const got = await group.run<{ shape: Shape; data: HostArray }[]>("calls", list);
  for (const [i, call] of list.entries()) {
    const wanted = await expected(call, i, size);
    for (let rank = 0; rank < size; rank++) {
      const bytes = (data: HostArray): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      const { data } = got[rank][i];
      assert.equal(data.length, wanted[rank].length, `${call.op} ${call.dtype} (${call.shape}) at rank ${rank}`);
      if (bytes(data).equals(bytes(wanted[rank]))) continue;
      const first = data.findIndex((x: number | bigint, k: number) => x !== wanted[rank][k]);
      assert.fail(`${call.op} ${call.dtype} (${call.shape}) at rank ${rank}: element ${first} is ${data[first]}, expected ${wanted[rank][first]}`);
    }
  }
}

/** 0, 1, odd, the border of small sums, and, in two dtypes, more than several rounds of slices and a ring hold. */
const sizes = (dtype: DType, size: number): number[] => [0, 1, 17, 4096 / bytesPerElement(dtype), 4096 / bytesPerElement(dtype) + 1,
  dtype === "f32" || dtype === "bf16" ? (4 * size * (128 << 10)) / bytesPerElement(dtype) + 1003 : 20_011];

/** Every operation in every dtype and size. */
export function everyCall(size: number): Call[] {
  const sums = summed.flatMap((dtype) => sizes(dtype, size).flatMap((n): Call[] => [{ op: "allReduce", dtype, shape: [n] }, { op: "reduce", dtype, shape: [n], argument: size - 1 }]));
  const scattered = summed.flatMap((dtype): Call[] => [0, 1, -1].flatMap((argument): Call[] => [
    { op: "reduceScatter", dtype, shape: [2 * size, 3 * size, size], argument }, { op: "reduceScatter", dtype, shape: [size, 40 * size, 101 * size], argument }]));
  const moved = (["f32", "bf16", "u8", "f64"] as const).flatMap((dtype): Call[] => [
    ...sizes(dtype, size).map((n): Call => ({ op: "broadcast", dtype, shape: [n], argument: n % size })), { op: "rotate", dtype, shape: [3, 5] }, { op: "rotate", dtype, shape: [100_003], argument: -1 },
    ...[0, 1, 2].flatMap((argument): Call[] => [{ op: "allGather", dtype, shape: [2, 3, 5], argument }, { op: "allGather", dtype, shape: [7, 211, 97], argument }, { op: "allGather", dtype, shape: [2, 0, 5], argument },
      { op: "allToAll", dtype, shape: [size, 2 * size, 3 * size], argument }, { op: "allToAll", dtype, shape: [size, 50 * size, 33 * size], argument }])]);
  return [...sums, ...scattered, ...moved];
}

describe("collectives", function () {
  this.timeout(120_000);

  for (const size of [1, 2, 3, 4]) {
    describe(`of ${size} processes`, () => {
      let group: GroupProcesses;
      before(async () => { group = await startGroup({ size, module }); });
      after(() => group.end());

      it("CG-1: give every bit that the tree over ranks gives, for every operation, dtype and size", () => check(group, size, everyCall(size)));
      it("pass a barrier together", async () => { await group.run("barrier"); });
    });
  }

  for (const elements of [16, 3_000_000]) {
    for (const delayMs of [0, 100]) {
      it(`CG-2: a member killed ${delayMs} ms into sums of ${elements} elements is named by all others within two seconds, and leaves no memory`, async () => {
        const group = await startGroup({ size: 3, module });
        const outcomes = group.outcomes<{ code: string; message: string; details: { op: string }; failed: string; at: number }>("reduceForever", () => ({ elements }));
        await passed(delayMs);
        const killedAt = Date.now();
        group.processes[1].kill("SIGKILL");
        const [first, killed, last] = await outcomes;
        assert.ok("error" in killed && (killed.error as RuntimeError).code === "ERR_DEAD");
        for (const survivor of [first, last]) {
          assert.ok("result" in survivor, "error" in survivor ? survivor.error.message : "");
          const { code, message, details, failed, at } = survivor.result;
          assert.equal(code, "ERR_COLLECTIVE");
          assert.equal(details.op, "all_reduce");
          assert.match(message, /waiting for rank 1 \(member-1 on host \S+\): its process \d+ has ended/);
          assert.ok(message.includes(failed), `${message} / ${failed}`);
          assert.ok(at - killedAt < 2000, `known after ${at - killedAt} ms`);
        }
        const segment = segmentOf(group.processes[0].pid!);
        assert.ok(segment.length > 0, "a member that lives holds its segment");
        await group.end();
        for (const { pid } of group.processes) assert.deepEqual(segmentOf(pid!), []);
      });
    }
  }

  it("CG-2: a member that gives up ends the waits of all others with its reason", async () => {
    const group = await startGroup({ size: 3, module });
    const messages = await group.run<string>("abortedByZero");
    for (const message of messages) assert.match(message, /rank 0 \(member-0 on host \S+\) gave up: the page was unreadable/);
    await group.end();
  });

  it("CG-2: a member that left is named by those who still want it", async () => {
    const group = await startGroup({ size: 3, module });
    const messages = await group.run<string>("leaveEarly");
    for (const rank of [0, 2]) assert.match(messages[rank], /waiting for rank 1 \(member-1 on host \S+\): it has left the group/);
    await group.end();
  });

  it("a barrier that waits too long says for whom", async () => {
    const group = await startGroup({ size: 3, module, name: "tensor of text" });
    const messages = await group.run<string>("barrierWithoutLast");
    assert.equal(messages[2], "stayed away");
    for (const rank of [0, 1]) assert.match(messages[rank], /^ERR_(DEADLINE barrier tensor of text: waiting for rank 2 \(member-2 on host \S+\)|COLLECTIVE .*waiting for rank 2 \(member-2 on host \S+\))$/);
    assert.ok(messages.some((message) => message.startsWith("ERR_DEADLINE")));
    const later = await group.run<{ message: string }>("oneCall", { op: "allReduce", dtype: "f32", shape: [1] });
    for (const { message } of later) assert.match(message, /waiting for rank 2/);
    await group.end();
  });

  const mismatches: [string, Call, Call, RegExp][] = [
    ["operations", { op: "allReduce", dtype: "f32", shape: [8] }, { op: "allGather", dtype: "f32", shape: [8] }, /all_reduce of f32 x 8 as call 1.*all_gather of f32 x 8 \(1\) as call 1|all_gather of f32 x 8 \(1\) as call 1.*all_reduce of f32 x 8 as call 1/],
    ["sizes", { op: "allReduce", dtype: "f32", shape: [900_000] }, { op: "allReduce", dtype: "f32", shape: [900_001] }, /f32 x 900000 as call 1.*f32 x 900001|f32 x 900001 as call 1.*f32 x 900000/],
    ["dtypes", { op: "allReduce", dtype: "f32", shape: [8] }, { op: "allReduce", dtype: "i32", shape: [8] }, /f32 x 8 as call 1.*i32 x 8|i32 x 8 as call 1.*f32 x 8/],
    ["roots", { op: "broadcast", dtype: "f32", shape: [8], argument: 1 }, { op: "broadcast", dtype: "f32", shape: [8], argument: 2 }, /rank [12].*broadcast/],
  ];
  for (const [what, most, odd, message] of mismatches) {
    it(`CG-3: members that call with different ${what} are told so by name`, async () => {
      const group = await startGroup({ size: 3, module });
      const outcomes = await group.outcomes<{ code: string; message: string } | undefined>("oneCall", (rank) => (rank === 2 ? odd : most));
      const told = outcomes.flatMap((outcome) => ("result" in outcome && outcome.result ? [outcome.result] : []));
      assert.ok(told.length >= 1, "nobody was told");
      for (const failure of told) {
        assert.equal(failure.code, "ERR_COLLECTIVE");
        assert.match(failure.message, message);
      }
      await group.end();
    });
  }

  it("refuses seats and offers that do not fit, by name", async () => {
    const seat = { name: "g", rank: 0, size: 2, members: ["a", "b"] };
    assert.throws(() => offerGroup({ ...seat, engine: "ucx" }), { code: "ERR_COLLECTIVE", message: /engine "ucx" does not exist/ });
    assert.throws(() => offerGroup({ ...seat, rank: 2 }), { code: "ERR_COLLECTIVE", message: /rank is 0 to 1, got 2/ });
    assert.throws(() => offerGroup({ ...seat, members: ["a"] }), { code: "ERR_COLLECTIVE", message: /2 members expected/ });
    const [a, b] = [offerGroup(seat), offerGroup({ ...seat, rank: 1 })];
    await assert.rejects(joinGroup(a, [a.offer]), { code: "ERR_COLLECTIVE", message: /2 offers expected, got 1/ });
    await assert.rejects(joinGroup(a, [b.offer, a.offer]), { code: "ERR_COLLECTIVE", message: /expected rank 0 of 2, a/ });
    await assert.rejects(joinGroup(a, [a.offer, b.offer]), { code: "ERR_COLLECTIVE", message: /lives in the same process as rank 0/ });
    const far = { ...b.offer, pid: 1, place: { ...b.offer.place, host: "elsewhere" }, host: "far" };
    await assert.rejects(joinGroup(a, [a.offer, far]), { code: "ERR_COLLECTIVE", message: /share no memory, and b offered no address/ });
    await assert.rejects(joinGroup(a, [a.offer, { ...b.offer, pid: 2 ** 22 + 1 }]), { code: "ERR_COLLECTIVE", message: /rank 1 \(b on host \S+\)/ });
  });

  it("checks shapes and dtypes at the call", async () => {
    const seat = offerGroup({ name: "alone", rank: 0, size: 1, members: ["me"] });
    const group = await joinGroup(seat, [seat.offer]);
    const x = fromArray(new Float32Array(6), [2, 3]), bytes = fromArray(new Uint8Array(2), [2]);
    assert.throws(() => group.allReduce(bytes), { code: "ERR_DTYPE", message: /allReduce: expected f64, f32, bf16, i64, i32, got u8/ });
    assert.throws(() => group.allGather(x, 2), { code: "ERR_SHAPE", message: /allGather: tensor expected an axis 2/ });
    assert.throws(() => group.broadcast(x, 1), { code: "ERR_COLLECTIVE", message: /root expected 0..0, got 1/ });
    group.close();
    assert.throws(() => group.allReduce(x), { code: "ERR_COLLECTIVE", message: /it is closed/ });
    x.dispose();
    bytes.dispose();
  });
});

/** Descriptors of anonymous segments that a process holds. */
function segmentOf(pid: number): string[] {
  try {
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return [...links, ...readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")].filter((line) => line.includes("memfd:octavo"));
  } catch {
    return []; // the process is gone, and with it all that it held
  }
}

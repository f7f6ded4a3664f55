/** What collective calls must give, bit by bit: computed here, in one process, from the tree that adds microbatches. */
import assert from "node:assert/strict";
import { GradientTree } from "../../../runtime/autograd/gradient-tree.ts";
import { type DType, type HostArray, type Shape, bytesPerElement, fromArray, sizeOf, toHostArray } from "../../../runtime/tensor/index.ts";
import type { Call } from "./collective-bodies.ts";
import { valuesOf } from "./collective-values.ts";
import type { GroupProcesses } from "./group-processes.ts";

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

/** Every operation in every dtype and size; the large shapes along axes in one dtype of two bytes and one of four. */
export function everyCall(size: number): Call[] {
  const large = (dtype: DType, ...more: Call[]): Call[] => (dtype === "bf16" || dtype === "f32" ? more : []);
  const sums = summed.flatMap((dtype) => sizes(dtype, size).flatMap((n): Call[] => [{ op: "allReduce", dtype, shape: [n] }, { op: "reduce", dtype, shape: [n], argument: size - 1 }]));
  const scattered = summed.flatMap((dtype): Call[] => [0, 1, -1].flatMap((argument): Call[] => [
    { op: "reduceScatter", dtype, shape: [2 * size, 3 * size, size], argument }, ...large(dtype, { op: "reduceScatter", dtype, shape: [size, 40 * size, 101 * size], argument })]));
  const moved = (["f32", "bf16", "u8", "f64"] as const).flatMap((dtype): Call[] => [
    ...sizes(dtype, size).map((n): Call => ({ op: "broadcast", dtype, shape: [n], argument: n % size })), { op: "rotate", dtype, shape: [3, 5] }, { op: "rotate", dtype, shape: [100_003], argument: -1 },
    ...[0, 1, 2].flatMap((argument): Call[] => [{ op: "allGather", dtype, shape: [2, 3, 5], argument }, { op: "allGather", dtype, shape: [2, 0, 5], argument }, { op: "allToAll", dtype, shape: [size, 2 * size, 3 * size], argument },
      ...large(dtype, { op: "allGather", dtype, shape: [7, 211, 97], argument }, { op: "allToAll", dtype, shape: [size, 50 * size, 33 * size], argument })])]);
  return [...sums, ...scattered, ...moved];
}

/** What the processes of collectives.test.ts do. */
import { gatherRows } from "../../../runtime/ops/index.ts";
import type { Group } from "../../../runtime/parallel/groups/collectives.ts";
import { type DType, type HostArray, type Shape, type Tensor, assign, clone, fence, fromArray, record } from "../../../runtime/tensor/index.ts";
import { valuesOf } from "./collective-values.ts";

export interface Call {
  op: "allReduce" | "allGather" | "reduceScatter" | "broadcast" | "reduce" | "allToAll" | "rotate";
  dtype: DType;
  shape: Shape;
  /** An axis, a root, or how far to rotate. */
  argument?: number;
}

function start(group: Group, { op, argument }: Call, x: Tensor): Tensor {
  switch (op) {
    case "allReduce": group.allReduce(x); return x;
    case "broadcast": group.broadcast(x, argument ?? 0); return x;
    case "reduce": group.reduce(x, argument ?? 0); return x;
    case "allGather": return group.allGather(x, argument);
    case "reduceScatter": return group.reduceScatter(x, argument);
    case "allToAll": return group.allToAll(x, argument);
    case "rotate": return group.rotate(x, argument);
  }
}

/** Makes all calls, one after the other without waiting, and reads all results. */
export async function calls(group: Group, list: readonly Call[]): Promise<{ shape: Shape; data: HostArray }[]> {
  const operands = list.map(({ dtype, shape }, i) => fromArray(valuesOf(dtype, shape, group.rank, i), shape, dtype));
  const results = list.map((call, i) => start(group, call, operands[i]));
  const read = await Promise.all(results.map(async (tensor) => ({ shape: tensor.shape, data: await tensor.read() })));
  for (const tensor of new Set([...operands, ...results])) tensor.dispose();
  return read;
}

/** All-reduces without end, until one fails; says what failed, and when it knew. */
export async function reduceForever(group: Group, { elements }: { elements: number }): Promise<{ code: string; message: string; details: unknown; failed: string; at: number }> {
  const x = fromArray(new Float32Array(elements), [elements]);
  try {
    for (;;) {
      group.allReduce(x);
      await fence();
    }
  } catch (error) {
    const at = Date.now();
    const failed = (await group.failed).message;
    x.dispose();
    const { code, message, details } = error as Error & { code: string; details: unknown };
    return { code, message, details, failed, at };
  }
}

/** A call and a sum after it, which may fail: what the stream says. */
export async function oneCall(group: Group, call: Call): Promise<{ code: string; message: string } | undefined> {
  const x = fromArray(valuesOf(call.dtype, call.shape, group.rank, 0), call.shape, call.dtype);
  const y = start(group, call, x), one = fromArray(new Float32Array(1), [1]);
  group.allReduce(one);
  one.dispose();
  try {
    await fence();
    return undefined;
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return { code, message };
  } finally {
    if (y !== x) y.dispose();
    x.dispose();
  }
}

/** Rank 0 gives up while the others wait for it. */
export async function abortedByZero(group: Group): Promise<string> {
  const x = fromArray(new Float32Array(8), [8]);
  if (group.rank === 0) group.abort("the page was unreadable");
  else group.allReduce(x);
  const { message } = await group.failed;
  await fence().catch((error: Error) => { if (error.message.includes(message) === false) throw error; });
  x.dispose();
  return message;
}

/** All but the last come to the barrier. */
export async function barrierWithoutLast(group: Group): Promise<string> {
  if (group.rank === group.size - 1) return "stayed away";
  return group.barrier(300).then(() => "passed", (error: Error & { code: string }) => `${error.code} ${error.message}`);
}

export async function barrier(group: Group): Promise<void> {
  await group.barrier(20_000);
}

/** Leaves while the others still want a sum. */
export async function leaveEarly(group: Group): Promise<string> {
  if (group.rank === 1) return group.close(), "left";
  return (await oneCall(group, { op: "allReduce", dtype: "f32", shape: [4] }))!.message;
}

/** Milliseconds of one copy and of one all-reduce of f32 (elements), by turns, all members at once. */
export async function timedSums(group: Group, { elements, rounds }: { elements: number; rounds: number }): Promise<{ copies: number[]; sums: number[] }> {
  const x = fromArray(new Float32Array(elements), [elements]), y = fromArray(new Float32Array(elements), [elements]);
  const timed = async (work: () => void): Promise<number> => {
    await group.barrier();
    const begun = performance.now();
    work();
    await fence();
    return performance.now() - begun;
  };
  const copies: number[] = [], sums: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const copy = await timed(() => assign(x, y)), sum = await timed(() => group.allReduce(x));
    if (round > 0) copies.push(copy), sums.push(sum); // the first touches the memory
  }
  x.dispose();
  y.dispose();
  return { copies, sums };
}

/** A step with collective calls in it, recorded and replayed with other numbers: the sums of each. */
export async function replayed(group: Group): Promise<HostArray[]> {
  const given = (n: number): Tensor => fromArray(Float32Array.of(1, 10, 100).map((x) => x * n * (group.rank + 1)), [3]);
  const sumAndGather = (x: Tensor) => () => {
    const sum = clone(x);
    group.allReduce(sum);
    const all = group.allGather(sum);
    sum.dispose();
    return { all };
  };
  const first = given(1), { outputs, program, refused } = record([first], sumAndGather(first));
  if (!program) throw new Error(`not recorded: ${refused}`);
  const inputs = [given(2), given(3)], results = [outputs.all, ...inputs.map((x) => program.replay([x]).all)];
  const read = await Promise.all(results.map((tensor) => tensor.read()));
  program.drop();
  for (const tensor of [first, ...inputs, ...results]) tensor.dispose();
  return read;
}

/** Rank 1 does what its device refuses while the others wait for it. */
export async function faultOfOne(group: Group): Promise<{ code: string; message: string }> {
  const x = fromArray(new Float32Array(4), [4]), table = fromArray(new Float32Array(4), [2, 2]), ids = fromArray(Int32Array.of(7), [1], "i32");
  const rows = group.rank === 1 ? gatherRows(table, ids) : undefined;
  group.allReduce(x);
  try {
    await fence();
    throw new Error("nothing failed");
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return { code, message };
  } finally {
    for (const tensor of [x, table, ids, rows]) tensor?.dispose();
  }
}

/** One of them ends its process in good order, but without a word to the group: while the others wait for it. */
export async function exits(group: Group, { rank }: { rank: number }): Promise<string> {
  const x = fromArray(new Float32Array(4), [4]);
  if (group.rank === rank) setImmediate(() => process.exit(0));
  else group.allReduce(x);
  return fence().then(() => "nothing failed", (error: Error) => error.message).finally(() => x.dispose());
}

/** One of them ends its process while it waits for the others, which never come. */
export async function exitsWaiting(group: Group, { rank }: { rank: number }): Promise<void> {
  if (group.rank !== rank) return;
  const x = fromArray(new Float32Array(4), [4]);
  group.allReduce(x);
  setTimeout(() => process.exit(3), 100);
  await fence();
}

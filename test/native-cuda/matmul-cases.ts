// Matrix products on awkward shapes, against f64 and across thread counts. Run in this process by matmul.test.ts, and as a
// program of its own (prints JSON) where the environment must choose the gemm before the addon is loaded.
import { pathToFileURL } from "node:url";
import { native } from "../../runtime/native.ts";
import { bf16Values, firstDifference, narrowed, noise, rounded, roundedToBf16, run, runMixed, single, worst, type Numbers, type Operand, type Output } from "./device.ts";

/** `error` is the largest one, relative to the largest element; of a result rounded to bf16 what rounding cannot explain. */
export interface Finding { what: string; error: number; text: string; differs: string[] }
export const threadCounts = [1, 2, 3, 4, 8];

interface Case { kernel: string; operands: (Operand | Output | undefined)[]; scalars?: number[]; what: string }

function cases(): Case[] {
  const list: Case[] = [];
  // m, n, k: single elements, primes, below and above every tile side, cut columns, long sums, empty sums
  const products = [[1, 1, 1], [3, 5, 7], [17, 33, 65], [97, 101, 103], [256, 384, 96], [257, 281, 129], [20, 1100, 300], [13, 7, 4099], [48, 96, 5000], [700, 40, 33], [4, 6, 0]];
  for (const [m, n, k] of products) {
    for (const [ta, tb] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const a = noise(ta ? [k, m] : [m, k], m + 3 * n + k), b = noise(tb ? [n, k] : [k, n], m + n + 5 * k);
      list.push({ what: `matmul ${ta}${tb} (${m}, ${n}, ${k})`, kernel: "matmul", operands: [a, b, { out: [m, n] }], scalars: [ta, tb] });
    }
  }
  for (const [r, i, o] of [[1, 5, 3], [15, 40, 24], [37, 96, 384], [1031, 96, 33], [4100, 31, 17], [4100, 20, 270], [2040, 16, 504]]) {
    const x = noise([r, i], r + i), w = noise([o, i], o + i), bias = noise([o], o), dy = noise([r, o], r + o);
    list.push({ what: `linear_forward (${r}, ${i}) -> ${o}`, kernel: "linear_forward", operands: [x, w, bias, { out: [r, o] }] });
    list.push({ what: `linear_forward without bias (${r}, ${i}) -> ${o}`, kernel: "linear_forward", operands: [x, w, undefined, { out: [r, o] }] });
    list.push({ what: `linear_backward_input (${r}, ${o}) -> ${i}`, kernel: "linear_backward_input", operands: [dy, w, { out: [r, i] }] });
    list.push({ what: `linear_backward_weight (${r}, ${o}, ${i})`, kernel: "linear_backward_weight", operands: [dy, x, { out: [o, i] }] });
    list.push({ what: `linear_backward_bias (${r}, ${o})`, kernel: "linear_backward_bias", operands: [dy, { out: [o] }] });
  }
  return list;
}

const mapped = (c: Case, f: (o: Operand, i: number) => Operand) => c.operands.map((o, i) => (o && "data" in o ? f(o, i) : o));

/** Runs on every number of threads: the first result, and where others differ from it. */
async function onAllThreads(c: Case, operands: Case["operands"]): Promise<{ result: Numbers; differs: string[] }> {
  const results: Numbers[] = [];
  for (const threads of threadCounts) results.push((await runMixed(c.kernel, operands, c.scalars, { threads }))[0]);
  const differs = results.flatMap((result, t) => {
    const at = firstDifference(result, results[0]);
    return at < 0 ? [] : [`${threadCounts[t]} threads differ from 1 at element ${at}`];
  });
  return { result: results[0], differs };
}

export async function findings(): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const c of cases()) {
    const [truth] = await run(c.kernel, mapped(c, rounded), c.scalars);
    const { result, differs } = await onAllThreads(c, mapped(c, single));
    found.push({ what: c.what, ...worst(result, truth), differs });
  }
  return found;
}

/** Which operands of a layer may stay f32 beside bf16 ones: weight, bias, and their gradients. */
const parameters: Record<string, readonly number[]> = { matmul: [], linear_forward: [1, 2], linear_backward_input: [1], linear_backward_weight: [2], linear_backward_bias: [1] };

/**
 * bf16 against f64 of the same rounded operands: everything bf16; then parameters and their gradients f32; then everything bf16 but
 * the result. Fewer than 16 rows meet an f32 weight unrounded (LI-2), and so does the truth they are compared with.
 */
export async function bf16Findings(): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const c of cases()) {
    const last = c.operands.length - 1, few = (c.operands[0] as Operand).shape[0] < 16;
    const beside = parameters[c.kernel], layer = ["f32 parameters", beside, !beside.includes(last)] as const;
    const mixtures = [["bf16", [], true] as const, ...(beside.length ? [layer] : []), ["f32 result", [], false] as const];
    const [allRounded] = await run(c.kernel, mapped(c, roundedToBf16), c.scalars);
    for (const [name, wide, rounds] of mixtures) {
      const exact = (i: number): boolean => wide.some((at) => at === i) && i !== last && (i === 2 || few);
      const truth = c.operands.some((o, i) => o && exact(i)) ? (await run(c.kernel, mapped(c, (o, i) => (exact(i) ? rounded(o) : roundedToBf16(o))), c.scalars))[0] : allRounded;
      const operands = mapped(c, (o, i) => (wide.some((at) => at === i) ? single(o) : narrowed(o)));
      operands[last] = { ...(operands[last] as Output), like: rounds ? new Uint16Array() : new Float32Array() };
      const { result, differs } = await onAllThreads(c, operands);
      found.push({ what: `${c.what} ${name}`, ...(rounds ? beyondRounding(bf16Values(result as Uint16Array), truth) : worst(result, truth)), differs });
    }
  }
  return found;
}

/** As `worst`, after taking off half a unit in the last place of bf16: what one rounding may do to each element. */
function beyondRounding(result: Float64Array, truth: ArrayLike<number>): { error: number; text: string } {
  const unexplained = result.map((value, i) => {
    const half = 2 ** (Math.floor(Math.log2(Math.max(Math.abs(truth[i]), Math.abs(value), 2 ** -126))) - 8);
    return Math.abs(value - truth[i]) <= half ? truth[i] : truth[i] + Math.sign(value - truth[i]) * (Math.abs(value - truth[i]) - half);
  });
  return worst(unexplained, truth);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const f32 = await findings(), bf16 = await bf16Findings();
  console.log(JSON.stringify({ library: native().info().gemm.library, f32, bf16 }));
}

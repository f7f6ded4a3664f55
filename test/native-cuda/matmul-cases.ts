// Matrix products on awkward shapes, against f64 and across thread counts. Run in this process by matmul.test.ts, and as a
// program of its own (prints JSON) where the environment must choose the gemm before the addon is loaded.
import { pathToFileURL } from "node:url";
import { native } from "../../runtime/native.ts";
import { firstDifference, noise, rounded, run, single, worst, type Operand } from "./device.ts";

export interface Finding { what: string; error: number; text: string; differs: string[] }
export const threadCounts = [1, 2, 3, 4, 8];

interface Case { kernel: string; operands: (Operand | { out: readonly number[] } | undefined)[]; scalars?: number[]; what: string }

function cases(): Case[] {
  const list: Case[] = [];
  // m, n, k: single elements, primes, below and above every tile side, long sums, empty sums
  const products = [[1, 1, 1], [3, 5, 7], [17, 33, 65], [97, 101, 103], [256, 384, 96], [257, 513, 129], [13, 7, 4099], [48, 96, 5000], [700, 40, 33], [4, 6, 0]];
  for (const [m, n, k] of products) {
    for (const [ta, tb] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const a = noise(ta ? [k, m] : [m, k], m + 3 * n + k), b = noise(tb ? [n, k] : [k, n], m + n + 5 * k);
      list.push({ what: `matmul ${ta}${tb} (${m}, ${n}, ${k})`, kernel: "matmul", operands: [a, b, { out: [m, n] }], scalars: [ta, tb] });
    }
  }
  for (const [r, i, o] of [[1, 5, 3], [37, 96, 384], [1031, 96, 33], [4100, 31, 17]]) {
    const x = noise([r, i], r + i), w = noise([o, i], o + i), bias = noise([o], o), dy = noise([r, o], r + o);
    list.push({ what: `linear_forward (${r}, ${i}) -> ${o}`, kernel: "linear_forward", operands: [x, w, bias, { out: [r, o] }] });
    list.push({ what: `linear_forward without bias (${r}, ${i}) -> ${o}`, kernel: "linear_forward", operands: [x, w, undefined, { out: [r, o] }] });
    list.push({ what: `linear_backward_input (${r}, ${o}) -> ${i}`, kernel: "linear_backward_input", operands: [dy, w, { out: [r, i] }] });
    list.push({ what: `linear_backward_weight (${r}, ${o}, ${i})`, kernel: "linear_backward_weight", operands: [dy, x, { out: [o, i] }] });
    list.push({ what: `linear_backward_bias (${r}, ${o})`, kernel: "linear_backward_bias", operands: [dy, { out: [o] }] });
  }
  return list;
}

const mapped = (c: Case, f: (o: Operand) => Operand) => c.operands.map((o) => (o && "data" in o ? f(o) : o));

export async function findings(): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const c of cases()) {
    const [truth] = await run(c.kernel, mapped(c, rounded), c.scalars);
    const results: Float32Array[] = [];
    for (const threads of threadCounts) results.push((await run(c.kernel, mapped(c, single), c.scalars, { threads }))[0] as Float32Array);
    const differs = results.flatMap((result, t) => {
      const at = firstDifference(result, results[0]);
      return at < 0 ? [] : [`${threadCounts[t]} threads differ from 1 at element ${at}`];
    });
    found.push({ what: c.what, ...worst(results[0], truth), differs });
  }
  return found;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  findings().then((found) => console.log(JSON.stringify({ library: native().info().gemm.library, found })));
}

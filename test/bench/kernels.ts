// How fast the products and attention are, per number of threads: npm run bench -- kernels [--json] [--write]
// OCTAVO_GEMM=portable measures the version without oneDNN. Best of 15 runs of 10 launches each.
import { pathToFileURL } from "node:url";
import { native } from "../../runtime/native.ts";
import { keep, report, rounded } from "./report.ts";

const f32 = 1;

/** A tensor of small, repeatable numbers. */
function tensor(...shape: number[]): number {
  const size = shape.reduce((a, b) => a * b, 1), handle = native().allocate(f32, shape);
  native().upload(handle, Float32Array.from({ length: size }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5));
  return handle;
}

interface Case { kernel: string; operands: number[]; scalars: number[]; flop: number }

function cases(): Case[] {
  const [R, I, O] = [4096, 96, 384], x = tensor(R, I), w = tensor(O, I), bias = tensor(O), y = tensor(R, O), flop = 2 * R * I * O;
  const [B, N, H, K, grid] = [4, 197, 3, 32, 14], [q, k, v, out, dy, dq, dk, dv] = Array.from({ length: 8 }, () => tensor(B, N, H * K));
  const lse = tensor(B, H, N), table = tensor(732, H), dtable = tensor(732, H), scalars = [H, H, 0, grid, grid, 1 / Math.sqrt(K)];
  return [
    { kernel: "linear_forward", operands: [x, w, bias, y], scalars: [], flop },
    { kernel: "linear_backward_input", operands: [y, w, x], scalars: [], flop },
    { kernel: "linear_backward_weight", operands: [y, x, w], scalars: [], flop },
    { kernel: "attention_forward", operands: [q, k, v, 0, table, out, lse], scalars, flop: 4 * B * H * N * N * K },
    { kernel: "attention_backward", operands: [dy, q, k, v, 0, table, out, lse, dq, dk, dv, dtable], scalars, flop: 10 * B * H * N * N * K },
  ];
}

export async function measure(threadCounts: number[]): Promise<{ kernel: string; threads: number; milliseconds: number; gflops: number }[]> {
  const results = [], launches = 10, all = cases();
  for (const threads of threadCounts) {
    await native().fence();
    native().configure({ threads });
    for (const { kernel, operands, scalars, flop } of all) {
      const id = native().kernel(kernel);
      let milliseconds = Infinity;
      for (let round = 0; round < 15; round++) {
        await native().fence();
        const start = performance.now();
        for (let i = 0; i < launches; i++) native().launch(id, operands, scalars);
        await native().fence();
        milliseconds = Math.min(milliseconds, (performance.now() - start) / launches);
      }
      results.push({ kernel, threads, milliseconds, gflops: flop / milliseconds / 1e6 });
    }
  }
  return results;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const { kernel, threads, milliseconds, gflops } of await measure([1, 2]))
    report({ case: `kernels/${kernel}/${threads} threads`, value: gflops, unit: "GFLOP/s", milliseconds: rounded(milliseconds) });
  keep("kernels", "Kernels against what memory and cores can do");
}

/**
 * Products of the engine against the same oneDNN primitive called raw.
 * `npm run bench -- matmul [--json] [--write] [--only=TEXT] [--rounds=9]`
 *
 * A layer of R rows, I inputs and O outputs: linear_forward with its bias (R x O x I), linear_backward_input, linear_backward_weight
 * (O x I over R rows), and a plain matmul, as JavaScript launches them, one fence per round. bf16: activations and their gradients in
 * bf16; weight, bias and dw in f32, so that narrowing the weight counts. The raw side, peers/raw_matmul.cpp, has its matrices in
 * bf16 already, and on two threads OpenMP as oneDNN likes it. Rounds of both sides take turns; the ratio is best to best. On one thread
 * `processor` is the same ratio in processor time, median of the rounds: what to look at on a machine that does other things too.
 */
import { parseArgs } from "node:util";
import { native } from "../../runtime/native.ts";
import { temporaryFolder } from "../process/octavo.ts";
import { filled } from "./kernels/measure.ts";
import { type RawMatmul, type RawProduct, type Spent, rawMatmul } from "./peers/raw-matmul.ts";
import { keep, median, report, reportFlags, rounded } from "./report.ts";

type Precision = "f32" | "bf16";
interface Tensor { shape: number[]; dtype: Precision }
interface Product { name: string; kernel: string; operands: Tensor[]; scalars: number[]; raw: Omit<RawProduct, "threads"> }

const bars = new Map([[1, 0.95], [2, 0.85]]), roundMs = 40;
const { values: flags } = parseArgs({ options: { ...reportFlags, only: { type: "string", default: "" }, rounds: { type: "string", default: "9" } } });

/** R, O, I. */
const layers = [[4096, 384, 96], [4096, 96, 384], [1024, 768, 256], [4096, 1024, 256], [4096, 704, 256], [4096, 256, 704], [8000, 256, 256], [1000, 704, 256], [1024, 1024, 1024]];

function productsOf([R, O, I]: number[], dtype: Precision): Product[] {
  const x = { shape: [R, I], dtype }, y = { shape: [R, O], dtype }, w: Tensor = { shape: [O, I], dtype: "f32" }, bias: Tensor = { shape: [O], dtype: "f32" };
  const types = { in: dtype, out: dtype, bias: false };
  return [
    { name: "forward", kernel: "linear_forward", operands: [x, w, bias, y], scalars: [], raw: { transA: false, transB: true, m: R, n: O, k: I, ...types, bias: true } },
    { name: "dx", kernel: "linear_backward_input", operands: [y, w, x], scalars: [], raw: { transA: false, transB: false, m: R, n: I, k: O, ...types } },
    { name: "dw", kernel: "linear_backward_weight", operands: [y, x, w], scalars: [], raw: { transA: true, transB: false, m: O, n: I, k: R, ...types, out: "f32" } },
    { name: "matmul", kernel: "matmul", operands: [x, { ...w, dtype }, y], scalars: [0, 1], raw: { transA: false, transB: true, m: R, n: O, k: I, ...types } },
  ];
}

/** What every round spent on both sides. */
async function race(product: Product, threads: number, raw: RawMatmul): Promise<{ engine: Spent[]; peer: Spent[]; implementation: string }> {
  const device = native(), id = device.kernel(product.kernel), handles = product.operands.map((operand) => filled({ ...operand, fill: "noise" }));
  const launched = async (times: number): Promise<Spent> => {
    await device.fence();
    const start = performance.now(), used = process.cpuUsage();
    for (let i = 0; i < times; i++) device.launch(id, handles, product.scalars);
    await device.fence();
    const { user, system } = process.cpuUsage(used);
    return { seconds: (performance.now() - start) / 1000 / times, processor: (user + system) / 1e6 / times };
  };
  try {
    await device.fence();
    device.configure({ threads });
    const implementation = await raw.make({ ...product.raw, threads });
    await launched(1), await raw.run(1); // pages, primitives
    const times = Math.max(1, Math.ceil(roundMs / 1000 / (await launched(3)).seconds)), engine: Spent[] = [], peer: Spent[] = [];
    for (let round = 0; round < Number(flags.rounds); round++) {
      engine.push(await launched(times));
      peer.push(await raw.run(times));
    }
    return { engine, peer, implementation };
  } finally {
    handles.forEach((handle) => device.free(handle));
  }
}

async function measure(product: Product, label: string, threads: number, raw: RawMatmul): Promise<void> {
  const { engine, peer, implementation } = await race(product, threads, raw), { m, n, k } = product.raw;
  const best = (side: Spent[]): number => Math.min(...side.map(({ seconds }) => seconds)), speed = (seconds: number): number => 2 * m * n * k / seconds / 1e9;
  const middle = (of: keyof Spent): number => rounded(median(peer.map((spent, i) => spent[of] / engine[i][of])));
  const ratio = best(peer) / best(engine), bar = bars.get(threads)!;
  report({
    case: label, value: speed(best(engine)), unit: "GFLOP/s", ratio, bar, ok: ratio >= bar,
    raw: rounded(speed(best(peer))), median: middle("seconds"), ...(threads === 1 ? { processor: middle("processor") } : {}), implementation,
  });
}

async function main(): Promise<void> {
  const folder = temporaryFolder(), raw = rawMatmul(folder.path);
  try {
    for (const layer of layers)
      for (const dtype of ["f32", "bf16"] as const)
        for (const product of productsOf(layer, dtype))
          for (const threads of bars.keys()) {
            const label = `matmul/${product.name}/${layer.join("x")}/${dtype}/${threads} thread${threads === 1 ? "" : "s"}`;
            if (label.includes(flags.only)) await measure(product, label, threads, raw);
          }
    keep("matmul", "Products of the engine against oneDNN called raw");
  } finally {
    await raw.end();
    folder.remove();
  }
}

await main();

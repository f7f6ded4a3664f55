/**
 * What one op call costs JavaScript, small tensors: microseconds from call to return, its output freed, the median of many rounds.
 * `npm run bench -- overhead [--json] [--write]`
 *
 * The bar is 3 us. Forward and backward is one call recorded on a tape and walked back: two to four kernel calls.
 */
import { parseArgs } from "node:util";
import { Tape } from "../../runtime/autograd/index.ts";
import { add, layerNorm, linear } from "../../runtime/ops/index.ts";
import { Scope, type Tensor, fence, full } from "../../runtime/tensor/index.ts";
import { keep, median, report, reportFlags } from "./report.ts";

parseArgs({ options: reportFlags });
const calls = 500, rounds = 60, bar = 3;

async function microseconds(round: () => void): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    await fence(); // the stream waits: a call never finds its ring full
    const scope = new Scope("overhead"), begun = performance.now();
    scope.enter(round);
    scope.close();
    times.push(((performance.now() - begun) * 1000) / calls);
  }
  return median(times.slice(10));
}

const times = (work: () => void) => () => { for (let i = 0; i < calls; i++) work(); };
const x = full([4, 8], 1), weight = full([8, 8], 0.1), bias = full([8], 0), gain = full([8], 1);
const ops: Record<string, (x: Tensor) => Tensor> = {
  add: (x) => add(x, x), linear: (x) => linear(x, weight, bias), layerNorm: (x) => layerNorm(x, gain, bias, { eps: 1e-5 }),
};
for (const [name, op] of Object.entries(ops)) {
  const value = await microseconds(times(() => void op(x)));
  report({ case: `overhead/${name}`, value, unit: "us", bar, ok: value <= bar });
}
for (const parameter of [weight, bias, gain]) parameter.requiresGrad = true;
for (const [name, op] of Object.entries(ops)) {
  if (name === "add") continue;
  const value = await microseconds(() => {
    const tape = new Tape(), seed = full([4, 8], 1);
    let y = x;
    tape.record(times(() => (y = op(y))));
    tape.backward([[y, seed]]);
  });
  report({ case: `overhead/${name}/forward and backward`, value, unit: "us" });
}
for (const tensor of [x, weight, bias, gain]) tensor.dispose();
keep("overhead", "What an op call costs JavaScript");

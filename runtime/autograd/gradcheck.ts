import { type HostArray, Philox, Scope, Tensor, fromArray } from "../tensor/index.ts";
import { Tape } from "./tape.ts";

export interface GradcheckOptions {
  /** Step of the central difference. */
  epsilon?: number;
  /** Positions of the inputs to check; all f64 inputs by default. */
  wrt?: readonly number[];
  seed?: number;
}

export interface GradcheckReport {
  /** Largest |central - tape| / max(1, |central|, |tape|) over all elements. */
  maxError: number;
  worst: { input: number; element: number; central: number; tape: number };
  elements: number;
  toString(): string;
}

/**
 * Compares the tape's gradients with central differences, in f64, of the scalar sum(w * f(inputs)) with fixed random w.
 * `f` is called many times and must be a pure function of its inputs. Inputs that are not f64 are passed as they are.
 */
export async function gradcheck(f: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly Tensor[], o: GradcheckOptions = {}): Promise<GradcheckReport> {
  const epsilon = o.epsilon ?? 1e-5;
  const wrt = o.wrt ?? inputs.flatMap((input, i) => (input.dtype === "f64" ? [i] : []));
  const values = await Promise.all(inputs.map((input) => input.read()));
  const analytic = await tapeGradients(f, inputs, values, wrt, o.seed ?? 0);
  const report: GradcheckReport = { maxError: 0, worst: { input: -1, element: -1, central: 0, tape: 0 }, elements: 0, toString: describe };
  for (const [k, input] of wrt.entries()) {
    const central = await Promise.all(Array.from({ length: values[input].length }, async (_, element) => {
      const [up, down] = await Promise.all([1, -1].map((sign) => objective(f, inputs, values, input, element, sign * epsilon, analytic.weights)));
      return (up - down) / (2 * epsilon);
    }));
    central.forEach((expected, element) => {
      const got = analytic.gradients[k] === undefined ? 0 : Number(analytic.gradients[k]![element]);
      const error = Math.abs(expected - got) / Math.max(1, Math.abs(expected), Math.abs(got));
      report.elements++;
      if (!(error <= report.maxError)) {
        report.maxError = error;
        report.worst = { input, element, central: expected, tape: got };
      }
    });
  }
  return report;
}

async function tapeGradients(f: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly Tensor[], values: readonly HostArray[], wrt: readonly number[], seed: number) {
  const scope = new Scope("gradcheck");
  try {
    const { reads, weights } = scope.enter(() => {
      const leaves = inputs.map((input, i) => fromArray(values[i], input.shape, input.dtype));
      const tape = new Tape();
      for (const i of wrt) tape.watch(leaves[i]);
      const outputs = asList(tape.record(() => f(...leaves)));
      const random = new Philox(seed, 0x6772);
      const weights = outputs.map((output) => Float64Array.from({ length: output.size }, () => random.uniform(-1, 1)));
      const seeds = outputs.flatMap((output, i) => (tape.needs(output) ? [[output, fromArray(weights[i], output.shape)] as const] : []));
      const gradients = tape.backward(seeds);
      return { reads: wrt.map((i) => gradients.get(leaves[i])?.read()), weights };
    });
    return { gradients: await Promise.all(reads), weights };
  } finally {
    scope.close();
  }
}

/** sum(w * f) with one element moved, summed on the host in f64. */
async function objective(f: (...inputs: Tensor[]) => Tensor | readonly Tensor[], inputs: readonly Tensor[], values: readonly HostArray[], moved: number, element: number, by: number, weights: readonly Float64Array[]): Promise<number> {
  const scope = new Scope("gradcheck");
  let reads: Promise<HostArray>[];
  try {
    reads = scope.enter(() => asList(f(...inputs.map((input, i) => fromArray(i === moved ? nudge(values[i], element, by) : values[i], input.shape, input.dtype)))).map((output) => output.read()));
  } finally {
    scope.close();
  }
  const outputs = await Promise.all(reads);
  let total = 0;
  outputs.forEach((output, i) => weights[i].forEach((weight, j) => (total += weight * Number(output[j]))));
  return total;
}

function nudge(values: HostArray, element: number, by: number): Float64Array {
  const copy = Float64Array.from(values as Float64Array);
  copy[element] += by;
  return copy;
}

const asList = (result: Tensor | readonly Tensor[]): readonly Tensor[] => (result instanceof Tensor ? [result] : result);

function describe(this: GradcheckReport): string {
  const { input, element, central, tape } = this.worst;
  return `gradcheck over ${this.elements} elements: worst error ${this.maxError.toExponential(2)} at input ${input}, element ${element}: central difference ${central}, tape ${tape}`;
}

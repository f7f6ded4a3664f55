import { type HostArray, Philox, Scope, Tensor, fromArray } from "../tensor/index.ts";
import { Tape } from "./tape.ts";

export type Checked = (...inputs: Tensor[]) => Tensor | readonly Tensor[];

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
export async function gradcheck(f: Checked, inputs: readonly Tensor[], o: GradcheckOptions = {}): Promise<GradcheckReport> {
  const epsilon = o.epsilon ?? 1e-5;
  const wrt = o.wrt ?? inputs.flatMap((input, i) => (input.dtype === "f64" ? [i] : []));
  const point: Point = { f, inputs, values: await Promise.all(inputs.map((input) => input.read())) };
  const { gradients, weights } = await tapeGradients(point, wrt, o.seed ?? 0);
  const report: GradcheckReport = { maxError: 0, worst: { input: -1, element: -1, central: 0, tape: 0 }, elements: 0, toString: describe };

  for (const [k, input] of wrt.entries()) {
    const slopes = await Promise.all(Array.from({ length: point.values[input].length }, async (_, element) => {
      const ends = [epsilon, -epsilon].map((by) => weightedSum(point, weights, { input, element, by }));
      const [up, down] = await Promise.all(ends);
      return (up - down) / (2 * epsilon);
    }));
    slopes.forEach((central, element) => {
      const tape = Number(gradients[k]?.[element] ?? 0);
      const error = Math.abs(central - tape) / Math.max(1, Math.abs(central), Math.abs(tape));
      report.elements++;
      if (error <= report.maxError) return; // NaN is the worst of all
      report.maxError = error;
      report.worst = { input, element, central, tape };
    });
  }
  return report;
}

/** The function and the place where it is looked at. */
interface Point {
  f: Checked;
  inputs: readonly Tensor[];
  values: readonly HostArray[];
}

/** The tape's gradients of sum(w * f), undefined where none arrived, and the random w of each output. */
async function tapeGradients({ f, inputs, values }: Point, wrt: readonly number[], seed: number) {
  const scope = new Scope("gradcheck");
  try {
    const { reads, weights } = scope.enter(() => {
      const leaves = inputs.map((input, i) => fromArray(values[i], input.shape, input.dtype));
      const tape = new Tape();
      for (const i of wrt) tape.watch(leaves[i]);
      const outputs = asList(tape.record(() => f(...leaves)));
      const random = new Philox(seed, 0x6772); // "gr"
      const weights = outputs.map((output) => Float64Array.from({ length: output.size }, () => random.uniform(-1, 1)));
      const seeds = outputs.map((output, i) => [output, fromArray(weights[i], output.shape)] as const);
      const gradients = tape.backward(seeds.filter(([output]) => tape.needs(output)));
      return { reads: wrt.map((i) => gradients.get(leaves[i])?.read()), weights };
    });
    return { gradients: await Promise.all(reads), weights };
  } finally {
    scope.close();
  }
}

/** sum(w * f) with one element moved, added up on the host in f64. */
async function weightedSum({ f, inputs, values }: Point, weights: readonly Float64Array[], moved: { input: number; element: number; by: number }): Promise<number> {
  const scope = new Scope("gradcheck");
  let reads: Promise<HostArray>[];
  try {
    reads = scope.enter(() => {
      const leaves = inputs.map(({ shape, dtype }, i) => fromArray(i === moved.input ? nudge(values[i], moved) : values[i], shape, dtype));
      return asList(f(...leaves)).map((output) => output.read());
    });
  } finally {
    scope.close();
  }
  let total = 0;
  for (const [i, output] of (await Promise.all(reads)).entries()) {
    weights[i].forEach((weight, j) => (total += weight * Number(output[j])));
  }
  return total;
}

function nudge(values: HostArray, { element, by }: { element: number; by: number }): Float64Array {
  const copy = Float64Array.from(values as Float64Array);
  copy[element] += by;
  return copy;
}

const asList = (result: Tensor | readonly Tensor[]): readonly Tensor[] => (result instanceof Tensor ? [result] : result);

function describe(this: GradcheckReport): string {
  const { input, element, central, tape } = this.worst;
  return `gradcheck over ${this.elements} elements: worst error ${this.maxError.toExponential(2)}`
    + ` at input ${input}, element ${element}: central difference ${central}, tape ${tape}`;
}

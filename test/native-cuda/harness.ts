// One family of kernels, one description, three questions about each of its kernels:
//   does the fast f32 version agree with the f64 reference (tolerance stated), and the f32 reference, which sums plainly
//   from left to right, to ten times that;
//   are its bits the same with 1, 2 and 4 threads;
//   do the backward kernels give what central differences of the f64 forward predict.
// And once more in bf16, with all floats bf16 and with `wide` ones f32: what the f64 reference makes of the rounded operands, to one
// rounding and `tolerance`; the bits that rounding the f32 kernel's results would give; the same with 1, 2, 3, 4 and 8 threads.
// Operands are named as in native-cuda/kernels/*.h: with x and y, `dy` is the gradient that comes in, `dx` the one wanted.
import assert from "node:assert/strict";
import {
  bf16Bits, bf16Values, firstDifference, narrowed, noise, rounded, roundedToBf16, run, runMixed, single, worst,
  type Numbers, type Operand, type Output, type Settings,
} from "./device.ts";

export type Values = Record<string, Operand>;

export interface Family {
  /** Inputs of the forward kernel. Floats as Float64Array; ids and masks in their own dtype. */
  inputs: Values;
  /** Outputs of the forward kernel and their shapes; the first is the one that gradients come from. */
  outputs: Record<string, readonly number[]>;
  /** Kernel name -> its operands in order, and its scalars. The first kernel is the forward. */
  kernels: Record<string, readonly [operands: string, ...scalars: number[]]>;
  /** Largest error relative to the largest element, f32 against f64. Default 2e-6. */
  tolerance?: number;
  /** Floats that stay f32 where activations are bf16: parameters, their gradients, statistics, losses. */
  wide?: string;
  /** Largest error of a gradient against central differences, relative to the largest. Default 1e-7. */
  gradientTolerance?: number;
}

/** Declares the tests of a family: `describeAt(...sizes)` is asked for every row of `sizes`. */
export function family(title: string, describeAt: (...size: number[]) => Family, sizes: readonly (readonly number[])[]): void {
  describe(title, () => {
    for (const size of sizes) {
      const subject = describeAt(...size), at = `(${size.join(", ")})`;
      it(`${at} agrees with f64 and has the same bits on 1, 2, 3, 4 and 8 threads`, () => agrees(subject));
      it(`${at} reads bf16 as f32, rounds once, and has the same bits on 1, 2, 3, 4 and 8 threads`, async () => {
        await agreesInBf16(subject, () => true, subject.wide ? [] : [2, 3, 4, 8]);
        if (subject.wide) await agreesInBf16(subject, (name) => !subject.wide!.split(" ").includes(name), [2, 3, 4, 8]);
      });
      const elements = Object.values(subject.inputs).reduce((sum, o) => sum + (isFloat(o) ? o.data.length : 0), 0);
      if (Object.keys(subject.kernels).length > 1 && elements > 0 && elements <= 120)
        it(`${at} has the gradients that central differences predict`, () => differentiates(subject));
    }
  });
}

const isFloat = (operand: Operand): boolean => operand.data instanceof Float64Array;
const as = (convert: (o: Operand) => Operand) => (operand: Operand): Operand => (isFloat(operand) ? convert(operand) : operand);
const exact = (operand: Operand): Operand => operand;

/** What kernel number `which` is given: inputs, results of the forward, the incoming gradient; everything else is an output. */
function operandsOf(subject: Family, which: string, known: Values, convert: (o: Operand) => Operand): { operands: (Operand | Output)[]; names: string[] } {
  const names = subject.kernels[which][0].split(" "), isForward = which === Object.keys(subject.kernels)[0];
  const operands = names.map((name): Operand | Output => {
    if (isForward && name in subject.outputs) return { out: subject.outputs[name] };
    if (name in known) return as(convert)(known[name]);
    assert.ok(name[0] === "d" && name.slice(1) in subject.inputs, `${which}: no operand ${name}`);
    return { out: subject.inputs[name.slice(1)].shape };
  });
  return { operands, names: names.filter((_, i) => "out" in operands[i]) };
}

async function results(subject: Family, which: string, known: Values, convert: (o: Operand) => Operand, settings?: Settings): Promise<Record<string, Float32Array | Float64Array>> {
  const { operands, names } = operandsOf(subject, which, known, convert);
  const arrays = await run(which, operands, subject.kernels[which].slice(1) as number[], settings);
  return Object.fromEntries(names.map((name, i) => [name, arrays[i]]));
}

/** Inputs, the f64 results of the forward, and a gradient for its first output. */
async function everything(subject: Family): Promise<Values> {
  const [forward] = Object.keys(subject.kernels), [first] = Object.keys(subject.outputs);
  const saved = await results(subject, forward, subject.inputs, rounded);
  return {
    ...subject.inputs,
    ...Object.fromEntries(Object.entries(saved).map(([name, data]) => [name, { shape: subject.outputs[name], data }])),
    [`d${first}`]: noise(subject.outputs[first], 97),
  };
}

async function agrees(subject: Family): Promise<void> {
  const known = await everything(subject), tolerance = subject.tolerance ?? 2e-6;
  for (const which of Object.keys(subject.kernels)) {
    const truth = await results(subject, which, known, rounded);
    const fast = await results(subject, which, known, single, { threads: 1 });
    const plain = await results(subject, which, known, single, { kernels: "reference" });
    for (const name of Object.keys(truth)) {
      for (const [twin, result, allowed] of [["fast", fast, tolerance], ["f32 reference", plain, 10 * tolerance]] as const) {
        const { error, text } = worst(result[name], truth[name]);
        assert.ok(error <= allowed, `${which} ${twin}: ${name}: ${text}, tolerance ${allowed}`);
      }
    }
    for (const threads of [2, 3, 4, 8]) {
      const again = await results(subject, which, known, single, { threads });
      for (const name of Object.keys(truth))
        assert.equal(firstDifference(again[name], fast[name]), -1, `${which}: ${name} on ${threads} threads`);
    }
  }
}

/** Every float operand for which `narrow(name)` holds is bf16, the others are f32. */
async function agreesInBf16(subject: Family, narrow: (name: string) => boolean, threadCounts: readonly number[]): Promise<void> {
  const known = Object.fromEntries(Object.entries(await everything(subject)).map(([name, operand]) =>
    [name, !isFloat(operand) ? operand : narrow(name) ? roundedToBf16(operand) : rounded(operand)]));
  const outputs = async (which: string, settings: Settings, bf16: (name: string) => boolean): Promise<Numbers[]> => {
    const { operands } = operandsOf(subject, which, known, exact), names = subject.kernels[which][0].split(" ");
    const given = operands.map((operand, i): Operand | Output => {
      if ("out" in operand) return { ...operand, like: bf16(names[i]) ? new Uint16Array() : new Float32Array() };
      return as(bf16(names[i]) ? narrowed : single)(operand);
    });
    return runMixed(which, given, subject.kernels[which].slice(1) as number[], settings);
  };
  for (const which of Object.keys(subject.kernels)) {
    const truth = Object.entries(await results(subject, which, known, exact));
    const once = await outputs(which, { threads: 1 }, narrow), wide = await outputs(which, { threads: 1 }, () => false);
    truth.forEach(([name, expected], i) => {
      const got = once[i], values = got instanceof Uint16Array ? bf16Values(got) : got;
      const allowed = (got instanceof Uint16Array ? 2 ** -8 : 0) + 2 * (subject.tolerance ?? 2e-6), { error, text } = worst(values, expected);
      assert.ok(error <= allowed, `${which} in bf16: ${name}: ${text}, tolerance ${allowed}`);
      const rounded = got instanceof Uint16Array ? bf16Bits(wide[i]) : wide[i];
      assert.equal(firstDifference(got, rounded), -1, `${which}: ${name} of bf16 operands, against f32 rounded once`);
    });
    for (const threads of threadCounts) {
      const again = await outputs(which, { threads }, narrow);
      truth.forEach(([name], i) => assert.equal(firstDifference(again[i], once[i]), -1, `${which} in bf16: ${name} on ${threads} threads`));
    }
  }
}

const step = 1e-5;

async function differentiates(subject: Family): Promise<void> {
  const [forward, ...backward] = Object.keys(subject.kernels), [first] = Object.keys(subject.outputs);
  const known = await everything(subject), dy = known[`d${first}`].data;
  const exactSaved = await results(subject, forward, subject.inputs, exact);
  for (const [name, data] of Object.entries(exactSaved)) known[name] = { shape: subject.outputs[name], data };
  const loss = async (inputs: Values): Promise<number> =>
    dot((await results(subject, forward, inputs, exact))[first], dy);
  for (const which of backward) {
    for (const [name, gradient] of Object.entries(await results(subject, which, known, exact))) {
      const input = subject.inputs[name.slice(1)], predicted = new Float64Array(gradient.length);
      for (let i = 0; i < predicted.length; i++) {
        const moved = async (by: number): Promise<number> => {
          const data = Float64Array.from(input.data);
          data[i] += by;
          return loss({ ...subject.inputs, [name.slice(1)]: { shape: input.shape, data } });
        };
        predicted[i] = (await moved(step) - await moved(-step)) / (2 * step);
      }
      const { error, text } = worst(gradient, predicted), tolerance = subject.gradientTolerance ?? 1e-7;
      assert.ok(error <= tolerance, `${which}: ${name}: ${text}, tolerance ${tolerance}`);
    }
  }
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Float64Array.from(a).reduce((sum, v, i) => sum + v * b[i], 0);

/** Asserts numbers against literals, element by element, and prints the worst. */
export function close(got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  const { error, text } = worst(got, expected);
  assert.ok(error <= tolerance, `${text}, tolerance ${tolerance}`);
}

/** Asserts that the device refuses a call with ERR_DEVICE and a message that `pattern` matches. */
export async function refuses(call: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(call, (thrown: Error & { code?: string }) => {
    assert.equal(thrown.code, "ERR_DEVICE");
    assert.match(thrown.message, pattern);
    return true;
  });
}

/** What the tests of the number tower share: deterministic fills, closeness, and a check that nothing leaks. */
import assert from "node:assert/strict";
import { gradcheck } from "../../runtime/autograd/index.ts";
import { RuntimeError, ShapeError } from "../../runtime/errors.ts";
import { Philox, Scope, type Shape, type Tensor, fence, fnv1a32, fromArray, memory, sizeOf } from "../../runtime/tensor/index.ts";

/** A matcher for assert.throws and assert.rejects: this code, and a message like that. */
export const code = (expected: string, message?: RegExp) => (error: unknown): true => {
  assert.ok(error instanceof RuntimeError, `expected a RuntimeError, got ${error}`);
  assert.equal(error.code, expected);
  if (message) assert.match(error.message, message);
  return true;
};

/** After the tests of the enclosing describe there are as many tensors and bytes as before. */
export function noLeaks(): void {
  let before: { tensors: number; bytesInUse: number };
  beforeEach(async () => {
    await fence();
    before = memory();
  });
  afterEach(async () => {
    await fence();
    const { tensors, bytesInUse } = memory();
    assert.deepEqual({ tensors, bytesInUse }, { tensors: before.tensors, bytesInUse: before.bytesInUse }, "tensors leaked");
  });
}

/** Runs asynchronous `work` with a scope that is closed afterwards; make tensors inside `scope.enter`. */
export async function withScope<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
  const scope = new Scope("test");
  try {
    return await work(scope);
  } finally {
    scope.close();
  }
}

/** Standard normal numbers, f64 unless told otherwise. */
export function randn(shape: Shape, { seed, dtype = "f64", scale = 1 }: { seed: number; dtype?: "f32" | "f64"; scale?: number }): Tensor {
  const random = new Philox(seed, 0x7465); // "te"
  return fromArray(Float64Array.from({ length: sizeOf(shape) }, () => scale * random.normal()), shape, dtype);
}

export const ids = (values: readonly number[], shape: Shape = [values.length]): Tensor => fromArray(Int32Array.from(values), shape);
export const flags = (values: readonly number[], shape: Shape = [values.length]): Tensor => fromArray(Uint8Array.from(values), shape);

/** The deterministic fill of the golden numbers: element k = offset + scale * u(name, k). */
export function goldenFill(name: string, size: number, scale: number, offset: number): Float64Array {
  const hash = fnv1a32(name);
  return Float64Array.from({ length: size }, (_, k) => {
    let h = (Math.imul(k + 1, 0x9e3779b1) + hash) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x7feb352d) >>> 0;
    h = Math.imul(h ^ (h >>> 15), 0x846ca68b) >>> 0;
    h = (h ^ (h >>> 16)) >>> 0;
    return offset + scale * (h / 2 ** 31 - 1);
  });
}

/** The golden fill of a parameter: its scale and offset follow from its name. */
export function goldenParameter(name: string, size: number): Float64Array {
  if (/(norm|LayerNorm|ln_|(^|\.)ln\.).*weight$/.test(name)) return goldenFill(name, size, 0.1, 1);
  if (/gamma_[12]$/.test(name)) return goldenFill(name, size, 0.02, 0.1);
  return goldenFill(name, size, name.endsWith("bias") ? 0.1 : 0.2, 0);
}

/** Every element within `tolerance`, absolute; the message shows the worst. */
export function assertClose(got: ArrayLike<number | bigint>, expected: ArrayLike<number>, tolerance: number, what = "values"): void {
  assert.equal(got.length, expected.length, `${what}: number of elements`);
  let worst = -1, worstError = -1;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(Number(got[i]) - expected[i]);
    if (!(error <= worstError)) [worst, worstError] = [i, error];
  }
  assert.ok(expected.length === 0 || worstError <= tolerance, `${what}, element ${worst} is ${got[worst]} instead of ${expected[worst]}, off by ${worstError} (tolerance ${tolerance})`);
}

/** The tape's gradients of `f` agree with central differences in f64. `wrt` names the inputs to vary, all f64 ones by default. */
export const hasGradient = (f: Parameters<typeof gradcheck>[0], inputs: () => Tensor[], { wrt, tolerance = 1e-7 }: { wrt?: readonly number[]; tolerance?: number } = {}): Promise<void> =>
  withScope(async (scope) => {
    const report = await gradcheck(f, scope.enter(inputs), { wrt });
    assert.ok(report.elements > 0, "no element was varied");
    assert.ok(report.maxError < tolerance, report.toString());
  });

/** The result of `work`, element by element. */
export const gives = (work: () => Tensor, expected: ArrayLike<number>, tolerance = 1e-10): Promise<void> =>
  withScope(async (scope) => assertClose(await scope.enter(work).read(), expected, tolerance));

/** A matcher for assert.throws: a ShapeError of this op about this operand, with all its parts. */
export const shapeError = (op: string, operand: string) => (error: unknown): true => {
  assert.ok(error instanceof ShapeError, String(error));
  assert.deepEqual([error.details.op, error.details.operand], [op, operand]);
  assert.ok(error.details.expected.length > 0 && error.details.fix.length > 10, error.message);
  return true;
};

export const f64 = (values: readonly number[], shape: Shape = [values.length]): Tensor => fromArray(Float64Array.from(values), shape);

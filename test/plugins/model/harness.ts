import assert from "node:assert/strict";
import {
  aloneHost, fromArray, materialise, release, Scope, type ForwardContext, type Plugin, type Tensor, type TensorComponent,
} from "../../../runtime/index.ts";
import { fill, fillWeight } from "./fill.ts";

/** The two computing dtypes and how closely each must meet numbers computed in float64. */
export const precisions = [{ dtype: "f64", tolerance: 1e-8 }, { dtype: "f32", tolerance: 2e-5 }] as const;
export type Precision = "f32" | "f64";

export const context = (over: Partial<ForwardContext> = {}): ForwardContext =>
  ({ training: false, step: 0, seed: 1, counts: {}, sampleIds: [], precision: "f32", ...over });

/** A component alone: options through the plugin's own schema, no recipe, no registry. */
export function build<C extends TensorComponent = TensorComponent>(plugin: Plugin, options: Record<string, unknown> = {}): C {
  return plugin.create(plugin.options.parse(options), aloneHost) as C;
}

/** Gives every parameter its value by the fill rule under `nameOf` its own name; `given` overrides by own name. */
export function fillParameters(component: TensorComponent, dtype: Precision, o: {
  nameOf?: (name: string) => string; given?: Record<string, ArrayLike<number>>; scale?: number;
} = {}): void {
  materialise(component.parameters(), {
    seed: 0, prefix: "", dtype,
    load: (name, { shape }) => o.given?.[name]
      ?? (o.scale === undefined ? fillWeight((o.nameOf ?? ((n) => n))(name), shape) : fill((o.nameOf ?? ((n) => n))(name), shape, o.scale)),
  });
}

/** Runs `work` in a scope, reads the tensors it returns, frees everything else, the component's parameters too when given. */
export async function compute(work: () => Record<string, Tensor>, ...components: TensorComponent[]): Promise<Record<string, number[]>> {
  const scope = new Scope("test");
  try {
    const tensors = scope.enter(work);
    const values: Record<string, number[]> = {};
    for (const [name, tensor] of Object.entries(tensors)) values[name] = Array.from(await tensor.readNumbers());
    return values;
  } finally {
    scope.close();
    for (const component of components) release(component.parameters());
  }
}

export const sum = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);
export const sumAbs = (values: ArrayLike<number>): number => sum(Array.from(values, Math.abs));

/** Every element within `tolerance`, absolutely or relative to 1 whichever is wider; names the worst. */
export function assertClose(got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  assert.equal(got.length, expected.length, `${what}: ${got.length} elements instead of ${expected.length}`);
  let worst = 0, at = -1;
  for (let i = 0; i < got.length; i++) {
    const error = Math.abs(got[i] - expected[i]) / Math.max(1, Math.abs(expected[i]));
    if (!(error <= worst)) [worst, at] = [error, i];
  }
  assert.ok(worst <= tolerance, `${what}: element ${at} is ${got[at]}, expected ${expected[at]}, off by ${worst}`);
}

/** Row-major identity matrix. */
export const identity = (size: number): Float64Array =>
  Float64Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0));

export const ones = (...shape: number[]): Tensor => fromArray(new Uint8Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);
export const mask = (rows: number[][]): Tensor => fromArray(Uint8Array.from(rows.flat()), [rows.length, rows[0].length]);
export const ids = (rows: number[][]): Tensor => fromArray(Int32Array.from(rows.flat()), [rows.length, rows[0].length]);
export const vector = (values: number[]): Tensor => fromArray(Int32Array.from(values), [values.length]);

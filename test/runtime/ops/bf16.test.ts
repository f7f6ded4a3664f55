/**
 * Ops in bf16 against the same ops in f64, both given the same numbers: operands rounded to what bf16 (parameters: f32) can hold.
 * What differs then is the rounding of results, nothing else.
 */
import assert from "node:assert/strict";
import { Tape } from "../../../runtime/autograd/index.ts";
import type { RuntimeError } from "../../../runtime/errors.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type DType, Philox, type Tensor, fromArray } from "../../../runtime/tensor/index.ts";
import { code, flags, ids, noLeaks, randn, withScope } from "../numbers.ts";
import { type OpCase, cases } from "./cases.ts";

/** What one run gives: outputs, then gradients of the inputs that have one. */
interface Results { outputs: Tensor[]; gradients: (Tensor | undefined)[] }

/** Forward and backward with `dtypes` for the f64 inputs, whose values are first rounded to what `held` can hold. */
async function run({ f, wrt }: OpCase, inputs: readonly Tensor[], dtypes: (position: number) => DType, held: (position: number) => DType, scope: Parameters<Parameters<typeof withScope>[0]>[0]): Promise<Results> {
  const values = await Promise.all(inputs.map((input) => input.read()));
  return scope.enter(() => {
    const leaves = inputs.map((input, i) => (input.dtype === "f64" ? as(fromArray(values[i], input.shape), held(i), dtypes(i)) : input));
    const tape = new Tape();
    leaves.forEach((leaf, i) => inputs[i].dtype === "f64" && (wrt?.includes(i) ?? true) && tape.watch(leaf));
    const made = tape.record(() => f(...leaves));
    const outputs = Array.isArray(made) ? [...(made as readonly Tensor[])] : [made as Tensor];
    const random = new Philox(1, 0x6266); // "bf"
    const seeds = outputs.map((y) => [y, as(fromArray(Float64Array.from({ length: y.size }, () => random.uniform(-1, 1)), y.shape), "bf16", y.dtype)] as const);
    const gradients = tape.backward(seeds);
    return { outputs, gradients: leaves.map((leaf) => gradients.get(leaf)) };
  });
}

/** Rounded to `held`, then in `dtype`. */
const as = (x: Tensor, held: DType, dtype: DType): Tensor => ops.cast(ops.cast(x, held as ops.CastTarget), dtype as ops.CastTarget);

async function near(got: Tensor, expected: Tensor, tolerance: number, what: string): Promise<void> {
  assert.deepEqual(got.shape, expected.shape, what);
  const [a, b] = [Array.from(await got.readNumbers()), Array.from(await expected.readNumbers())];
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
  b.forEach((value, i) => {
    const error = Math.abs(a[i] - value) / largest;
    assert.ok(error <= tolerance, `${what}, element ${i} is ${a[i]} instead of ${value}: off by ${error} of the largest, ${largest}`);
  });
}

describe("ops in bf16", () => {
  noLeaks();

  for (const each of cases) {
    const mixtures = each.f32 === undefined ? [[]] : each.name.startsWith("rope") ? [each.f32] : [[], each.f32];
    for (const f32 of mixtures) {
      it(`${each.name}${f32.length > 0 ? " beside f32" : ""} gives the values and gradients of f64, rounded, in the operands' dtypes`, () => withScope(async (scope) => {
        const inputs = scope.enter(each.inputs);
        const dtype = (position: number): DType => (f32.includes(position) ? "f32" : "bf16");
        const got = await run(each, inputs, dtype, dtype, scope), expected = await run(each, inputs, () => "f64", dtype, scope);
        for (const [i, y] of got.outputs.entries()) {
          assert.equal(y.dtype, losses.test(each.name) ? "f32" : "bf16", "dtype of the output");
          await near(y, expected.outputs[i], each.bf16 ?? 2 ** -8, `output ${i}`);
        }
        for (const [i, gradient] of got.gradients.entries()) {
          assert.equal(gradient === undefined, expected.gradients[i] === undefined, `gradient of input ${i}`);
          if (gradient === undefined) continue;
          assert.equal(gradient.dtype, dtype(i), `dtype of the gradient of input ${i}`);
          await near(gradient, expected.gradients[i]!, each.bf16 ?? 2 ** -8, `gradient of input ${i}`);
        }
      }));
    }
  }

  /** Their value is one f32 number. */
  const losses = /entropy|loss|box|error|divergence|infoNce/i;

  it("ask questions of bf16 and f32 alike", () => withScope(async (scope) => {
    const [same, less] = scope.enter(() => [ops.eq(bf16([1, 2.5, -0]), f32([1, 2.51, 0])), ops.lt(f32([1, 2, NaN]), bf16([1.01, 1, 1]))]);
    assert.deepEqual([same.dtype, ...await same.read()], ["u8", 1, 0, 1]);
    assert.deepEqual([...await less.read()], [1, 0, 0]);
  }));

  it("cast to the nearest, ties to even, NaN to NaN, and back in the dtype it came from", () => withScope(async (scope) => {
    const [x, back, dx] = scope.enter(() => {
      // 1 + 2^-8 lies in the middle between 1 and 1 + 2^-7, 1 + 3 * 2^-8 in the middle above
      const x = f32([1 + 2 ** -8, 1 + 3 * 2 ** -8, NaN, 3.4e38, -0]), tape = new Tape();
      tape.watch(x);
      const y = tape.record(() => ops.cast(x, "bf16"));
      return [y, ops.cast(y, "f64"), tape.backward([[y, bf16([1, 2, 3, 4, 5])]]).get(x)!];
    });
    assert.deepEqual([...await x.readNumbers()], [1, 1 + 2 ** -6, NaN, Infinity, -0]);
    assert.deepEqual([back.dtype, ...await back.read()], ["f64", 1, 1 + 2 ** -6, NaN, Infinity, -0]);
    assert.deepEqual([dx.dtype, ...await dx.read()], ["f32", 1, 2, 3, 4, 5]);
  }));

  it("cast to its own dtype, toPrecision and widen give x itself where there is nothing to do", () => withScope(async (scope) => scope.enter(() => {
    const [wide, narrow, exact] = [f32([1]), bf16([1]), randn([1], { seed: 1 })];
    assert.deepEqual([ops.cast(wide, "f32") === wide, ops.toPrecision(wide, "f32") === wide, ops.toPrecision(exact, "bf16") === exact], [true, true, true]);
    assert.deepEqual([ops.toPrecision(narrow, "bf16") === narrow, ops.toPrecision(narrow, "f32") === narrow, ops.widen(wide) === wide, ops.widen(exact) === exact], [true, true, true, true]);
    assert.deepEqual([ops.toPrecision(wide, "bf16").dtype, ops.widen(narrow).dtype], ["bf16", "f32"]);
  })));

  it("gradients of one activation used twice are added in bf16, and reach f32 parameters as f32", () => withScope(async (scope) => {
    const [dx, dw] = scope.enter(() => {
      const x = bf16([1, 2, 3, 4], [2, 2]), w = f32([0.5, -0.25]), tape = new Tape();
      tape.watch(x), tape.watch(w);
      const y = tape.record(() => ops.add(ops.mul(x, w), ops.mul(x, x)));
      const gradients = tape.backward([[y, bf16([1, 1, 1, 1], [2, 2])]]);
      return [gradients.get(x)!, gradients.get(w)!];
    });
    assert.deepEqual([dx.dtype, ...await dx.readNumbers()], ["bf16", 2.5, 3.75, 6.5, 7.75]);
    assert.deepEqual([dw.dtype, ...await dw.read()], ["f32", 4, 6]);
  }));

  it("a sum for an f32 operand does not round on its way: 1 + 2^-10, 1024 times over", () => withScope(async (scope) => {
    const dw = scope.enter(() => {
      const x = ops.cast(fromArray(new Float32Array(1024).fill(1 + 2 ** -7), [1024, 1]), "bf16"), w = f32([1]), tape = new Tape();
      tape.watch(w);
      const y = tape.record(() => ops.mul(x, w));
      return tape.backward([[y, ops.cast(fromArray(new Float32Array(1024).fill(1 + 2 ** -7), [1024, 1]), "bf16")]]).get(w)!;
    });
    assert.equal(await dw.item(), 1024 * (1 + 2 ** -7) ** 2);
  }));

  it("refuse what does not go together, naming op, operand, expected, got and the way out", () => withScope(async (scope) => {
    const refused: [RegExp, () => unknown][] = [
      [/add: b expected f64, got bf16\. f64 is for reference work and mixes with nothing/, () => ops.add(randn([1], { seed: 1 }), bf16([1]))],
      [/linear: weight expected f32 or bf16, got f64/, () => ops.linear(bf16([1], [1, 1]), randn([1, 1], { seed: 1 }))],
      [/gelu: x expected f32, bf16 or f64, got i32\. Ids and masks are not numbers/, () => ops.gelu(ids([1]))],
      [/mul: b expected f32 or bf16, got u8\. Ids and masks/, () => ops.mul(bf16([1]), flags([1]))],
      [/silu: x expected f32, bf16 or f64, got f16\. f16 is only carried/, () => ops.silu(fromArray(Uint16Array.of(1), [1], "f16"))],
      [/concat: part 1 expected bf16, got f32\. Parts are moved as they are: cast\(part, dtype\) first\./, () => ops.concat([bf16([1]), f32([1])], 0)],
      [/gatherRows: index expected i32, got bf16/, () => ops.gatherRows(bf16([1], [1, 1]), bf16([0]))],
    ];
    for (const [message, call] of refused) assert.throws(() => scope.enter(call), code("ERR_DTYPE", message));
    assert.throws(() => scope.enter(() => ops.add(bf16([1]), ids([1]))), (error: RuntimeError) => {
      assert.deepEqual(Object.keys(error.details).sort(), ["expected", "fix", "got", "op", "operand"]);
      return true;
    });
  }));
});

const bf16 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => fromArray(values, shape, "bf16");
const f32 = (values: readonly number[]): Tensor => fromArray(values, [values.length]);

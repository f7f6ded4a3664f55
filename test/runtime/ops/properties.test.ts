/**
 * What every op promises, on random operands (op-table.ts): the values and gradients of the f64 reference, the same bits on any number of
 * threads, in f32 and bf16; gradients that central differences predict; and for bad operands an error that says what was wrong, never a crash.
 * OCTAVO_PROPERTY_RUNS draws more than the usual 10 per op; a failure prints the seed and path that repeat it (OCTAVO_PROPERTY_SEED, default 1);
 * OCTAVO_PROPERTY_SHRINK=1 looks for a smaller drawing that fails too.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Tape, gradcheck } from "../../../runtime/autograd/index.ts";
import { RuntimeError } from "../../../runtime/errors.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { type DType, Philox, type Shape, Tensor, configureDevice, fence, fromArray, isFloat } from "../../../runtime/tensor/index.ts";
import { noLeaks, withScope } from "../numbers.ts";
import { type Call, Draw, type Drawn, show } from "./draw.ts";
import { type Row, table } from "./op-table.ts";

const runs = Number(process.env.OCTAVO_PROPERTY_RUNS ?? 10), seed = Number(process.env.OCTAVO_PROPERTY_SEED ?? 1);
const isFloats = (drawn: Drawn): boolean => drawn.data instanceof Float64Array;
const watchedIn = (row: Row, call: Call): string[] =>
  row.constant === true ? [] : Object.keys(call.operands).filter((name) => isFloats(call.operands[name]) && !(row.constant as string[] | undefined)?.includes(name));

/** Checks `property` on drawings of one op; the message names operands and options beside the seed. */
const holds = (row: Row, times: number, small: boolean, property: (call: Call, d: Draw) => Promise<void>): Promise<void> =>
  fc.assert(fc.asyncProperty(fc.gen(), async (gen) => {
    const d = new Draw(gen, small), call = row.draw(d);
    await property(call, d).catch((error: Error) => {
      throw new Error(`${show(call)}: ${error.message}`, { cause: error });
    });
  }), { seed, numRuns: times, endOnFailure: process.env.OCTAVO_PROPERTY_SHRINK === undefined });

type Mode = "f64" | "f32" | "bf16";
interface Results { outputs: Uint8Array[]; numbers: Map<string, Float64Array> }

/** What one run gives, values and gradients, and all of it as bytes. */
async function run(row: Row, call: Call, mode: Mode, threads: number): Promise<Results> {
  await fence();
  configureDevice({ threads });
  return withScope(async (scope) => {
    const named = scope.enter(() => forwardAndBack(row, call, mode));
    const outputs: Uint8Array[] = [], numbers = new Map<string, Float64Array>();
    for (const [name, tensor] of named) {
      outputs.push(new Uint8Array((await tensor.read()).buffer));
      numbers.set(name, Float64Array.from(await tensor.readNumbers() as ArrayLike<number>, Number));
    }
    return { outputs, numbers };
  });
}

function forwardAndBack(row: Row, { operands, call }: Call, mode: Mode): Map<string, Tensor> {
  const dtypeOf = (name: string): DType => (mode === "bf16" && row.f32?.includes(name) ? "f32" : mode);
  const leaves = Object.fromEntries(Object.entries(operands).map(([name, drawn]) => [name, isFloats(drawn) ? fromArray(drawn.data, drawn.shape, dtypeOf(name)) : fromArray(drawn.data, drawn.shape)]));
  const tape = new Tape(), watched = watchedIn(row, { operands, call });
  watched.forEach((name) => tape.watch(leaves[name]));
  const made = tape.record(() => call(leaves)), outputs = made instanceof Tensor ? [made] : made;
  const random = new Philox(seed, 0x6479); // "dy"
  const gradients = tape.backward(outputs.filter((y) => isFloat(y.dtype) && tape.needs(y)).map((y) => {
    const dy = Float64Array.from({ length: y.size }, () => Math.round(random.uniform(-1, 1) * 128) / 128);
    return [y, fromArray(dy, y.shape, y.dtype)] as const;
  }));
  const named = new Map<string, Tensor>(outputs.map((y, i) => [`output ${i}`, y]));
  for (const name of watched) {
    const gradient = gradients.get(leaves[name]);
    if (gradient) named.set(`gradient of ${name}`, gradient);
  }
  return named;
}

/** Largest |a - b| as a share of the largest |b|, but at least of `floor`. NaN agrees with NaN. */
function agree(got: Results, truth: Results, tolerance: number, floor: number): void {
  assert.deepEqual([...got.numbers.keys()], [...truth.numbers.keys()]);
  for (const [name, b] of truth.numbers) {
    const a = got.numbers.get(name)!;
    assert.equal(a.length, b.length, name);
    const largest = b.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), floor);
    b.forEach((x, i) => {
      const off = Object.is(a[i], x) || a[i] === x ? 0 : Math.abs(a[i] - x) / largest;
      assert.ok(off <= tolerance, `${name}, element ${i} is ${a[i]} instead of ${x}: off by ${off.toExponential(2)} of the largest, tolerance ${tolerance}`);
    });
  }
}

const sameBits = (a: Results, b: Results, what: string): void => a.outputs.forEach((bytes, i) => assert.ok(Buffer.from(bytes).equals(Buffer.from(b.outputs[i])), `${[...a.numbers.keys()][i]} has other bits ${what}`));

describe("properties of every op", function () {
  this.timeout(600_000);
  afterEach(async () => { // a fault of one op is not the next one's
    await fence().catch(() => undefined);
    configureDevice({ threads: 2 });
  });
  noLeaks();

  it("there is a row for every op that runtime/ops exports, and no row without an op", () => {
    const exported = Object.entries(ops).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
    assert.deepEqual(Object.keys(table).sort(), exported.sort(), "draw operands for a new op in test/runtime/ops/op-table.ts");
  });

  for (const [name, row] of Object.entries(table)) {
    it(`${name} agrees with the f64 reference and has the same bits on any number of threads`, () => holds(row, runs, false, async (call, d) => {
      const truth = await run(row, call, "f64", 1);
      for (const mode of row.without === "bf16" ? ["f32"] as const : ["f32", "bf16"] as const) {
        const one = await run(row, call, mode, 1), threads = d.pick(2, 3, 4, 8);
        agree(one, truth, mode === "f32" ? row.tolerance ?? 3e-6 : row.bf16 ?? 2 ** -6, row.floor ?? 1e-3);
        sameBits(one, await run(row, call, mode, threads), `on ${threads} threads, in ${mode}`);
      }
    }));

    if (row.constant !== true) {
      it(`${name} has the gradient that central differences predict`, () => holds(row, Math.max(3, Math.round(runs / 3)), true, (call) => withScope(async (scope) => {
        await fence();
        const names = Object.keys(call.operands), watched = watchedIn(row, call);
        const inputs = scope.enter(() => names.map((operand) => fromArray(call.operands[operand].data, call.operands[operand].shape)));
        const outputs = (made: Tensor | readonly Tensor[]): Tensor[] => (made instanceof Tensor ? [made] : made.filter((y) => isFloat(y.dtype)));
        const report = await gradcheck((...tensors) => outputs(call.call(Object.fromEntries(names.map((operand, i) => [operand, tensors[i]])))), inputs, { wrt: watched.map((operand) => names.indexOf(operand)) });
        assert.ok(report.maxError < 1e-6, report.toString());
      })));
    }

    it(`${name} refuses operands that do not fit with a typed error, or takes them whole`, () => holds(row, runs, true, (call, d) => spoiltShape(name, call, d)));
    it(`${name} names the operand that was freed before the call`, () => holds(row, 3, true, (call, d) => freedOperand(name, call, d)));
  }
});

/** One operand gets another shape or dtype. Whatever the op says, it says it at the call, and the device stays sound. */
async function spoiltShape(op: string, call: Call, d: Draw): Promise<void> {
  const operand = d.pick(...Object.keys(call.operands)), spoilt = spoil(call.operands[operand], d);
  await withScope(async (scope) => {
    try {
      const made = scope.enter(() => call.call(Object.fromEntries(Object.entries(call.operands).map(([name, drawn]) => [name, tensorOf(name === operand ? spoilt : drawn)]))));
      await Promise.all((made instanceof Tensor ? [made] : made).map((y) => y.read()));
    } catch (error) {
      assert.ok(error instanceof RuntimeError, `${operand} ${spoilt.dtype ?? ""}(${spoilt.shape}): ${error}`);
      // Values of ids are known on the device alone: a smaller table makes them wrong there.
      if (error.code === "ERR_DEVICE" && /\] expected (an id|a bin|0, 1)/.test(error.message)) return configureDevice({});
      assert.ok(["ERR_SHAPE", "ERR_DTYPE", "ERR_INPUT"].includes(error.code), `${operand} ${spoilt.dtype ?? ""}(${spoilt.shape}): ${error.code} ${error.message}`);
      if (error.code === "ERR_INPUT") return;
      const details = error.details as Record<string, unknown>;
      for (const key of ["op", "operand", "expected", "got", "fix"]) assert.ok(details[key] !== undefined, `details.${key} is missing: ${error.message}`);
      assert.equal(details.op, op, error.message);
    }
  });
}

interface Spoilt { shape: Shape; dtype?: DType }

function spoil({ shape }: Drawn, d: Draw): Spoilt {
  const at = d.whole(0, Math.max(0, shape.length - 1));
  const ways: Spoilt[] = [{ shape: [...shape, 2] }, { shape: [3, ...shape] }, { shape, dtype: d.pick("i64", "f16", "u8", "i32") }, { shape, dtype: "f32" }];
  if (shape.length > 0) ways.push({ shape: shape.map((size, i) => (i === at ? size + 1 : size)) }, { shape: shape.filter((_, i) => i !== at) }, { shape: shape.map((size, i) => (i === at ? 0 : size)) }, { shape: [] });
  const way = d.pick(...ways);
  return { ...way, shape: way.shape.slice(0, 6) };
}

const tensorOf = (o: Drawn | Spoilt): Tensor => {
  if ("data" in o) return fromArray(o.data, o.shape);
  const size = o.shape.reduce((a, b) => a * b, 1), dtype = o.dtype ?? "f64";
  return fromArray(dtype === "f16" ? new Uint16Array(size) : dtype === "i64" ? new BigInt64Array(size) : new Float64Array(size), o.shape, dtype);
};

/** Use after free is ERR_HANDLE at the call, with the op and the operand as the caller knows them. */
async function freedOperand(op: string, call: Call, d: Draw): Promise<void> {
  const operand = d.pick(...Object.keys(call.operands));
  await withScope(async (scope) => {
    assert.throws(() => scope.enter(() => {
      const tensors = Object.fromEntries(Object.entries(call.operands).map(([name, drawn]) => [name, tensorOf(drawn)]));
      tensors[operand].dispose();
      call.call(tensors);
    }), (error: unknown) => {
      assert.ok(error instanceof RuntimeError && error.code === "ERR_HANDLE", `${operand} freed: ${error}`);
      assert.deepEqual([error.details.op, error.details.operand], [op, operand], error.message);
      return true;
    }, `${operand} was freed, and taken`);
  });
}

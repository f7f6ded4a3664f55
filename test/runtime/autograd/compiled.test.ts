import assert from "node:assert/strict";
import { Compiled, Tape } from "../../../runtime/autograd/index.ts";
import { add, linear, mul, relu, scale } from "../../../runtime/ops/index.ts";
import { type NamedTensors, type Tensor, Scope, fence, fromArray, full, memory, refuseRecording } from "../../../runtime/tensor/index.ts";
import { code, noLeaks } from "../numbers.ts";

const input = (...values: number[]): Tensor => fromArray(values, [1, values.length]);

/** Calls `compiled` in a scope that is closed when the outputs have been read. */
async function values(compiled: Compiled, inputs: () => NamedTensors, work: (inputs: NamedTensors) => Tensor, key?: string): Promise<number[]> {
  const scope = new Scope("call");
  try {
    const { y } = scope.enter(() => {
      const given = inputs();
      return compiled.run(given, () => ({ y: work(given) }), key);
    });
    return [...(await y.read())].map(Number);
  } finally {
    scope.close();
  }
}

describe("compiled work", () => {
  noLeaks();
  const counts = ({ recorded, replayed, eager }: Compiled["statistics"]) => ({ recorded, replayed, eager });

  it("CS-1: runs once, is recorded twice, then replayed, with the numbers of its inputs", async () => {
    const compiled = new Compiled("work"), weight = full([2, 2], 0.5);
    let runs = 0;
    const work = ({ x }: NamedTensors) => (runs++, relu(linear(add(x, x), weight)));
    for (let i = 0; i < 6; i++) {
      assert.deepEqual(await values(compiled, () => ({ x: input(i, 1) }), work), [i + 1, i + 1]);
    }
    assert.equal(runs, 3);
    assert.deepEqual(counts(compiled.statistics), { recorded: 2, replayed: 3, eager: 1 });
    compiled.clear();
    weight.dispose();
  });

  it("CS-1: goes back to recording when a shape or the key changes, and remembers as many signatures as asked for", async () => {
    const compiled = new Compiled("work", { limit: 2 });
    const work = ({ x }: NamedTensors) => scale(x, 2);
    const call = (length: number, key?: string) => values(compiled, () => ({ x: input(...Array<number>(length).fill(3)) }), work, key);
    for (const length of [1, 2, 1, 2, 1, 2, 1, 2]) assert.deepEqual(await call(length), Array<number>(length).fill(6));
    assert.deepEqual(counts(compiled.statistics), { recorded: 4, replayed: 2, eager: 2 });
    await call(1, "otherwise");
    await call(1, "otherwise");
    await call(2);
    await call(1); // the signature used longest ago had to go when another was recorded
    assert.deepEqual(counts(compiled.statistics), { recorded: 5, replayed: 3, eager: 4 });
    compiled.clear();
  });

  it("CS-1: refuses work that does not repeat itself, once, naming op and scalar, and stays eager", async () => {
    const told: string[] = [], compiled = new Compiled("the step", { onRefused: (reason) => told.push(reason) });
    let factor = 1;
    const work = ({ x }: NamedTensors) => scale(add(x, x), factor++);
    for (let i = 1; i <= 5; i++) assert.deepEqual(await values(compiled, () => ({ x: input(1) }), work), [2 * i]);
    assert.deepEqual(counts(compiled.statistics), { recorded: 2, replayed: 0, eager: 3 });
    assert.equal(told.length, 1);
    assert.match(told[0], /^the step is not compiled: command 2, scale: scalar 0 was 2, the second time 3; what changes must be an input$/);
    assert.deepEqual(compiled.statistics.refused, told);
    compiled.clear();
  });

  it("CS-1: forgives a first run that prepares something", async () => {
    const compiled = new Compiled("work");
    let first = true;
    const work = ({ x }: NamedTensors) => scale(first ? (first = false, add(x, x)) : x, 2);
    assert.deepEqual(await values(compiled, () => ({ x: input(1) }), work), [4]);
    for (let i = 0; i < 4; i++) assert.deepEqual(await values(compiled, () => ({ x: input(i) }), work), [2 * i]);
    assert.deepEqual(counts(compiled.statistics), { recorded: 2, replayed: 2, eager: 1 });
    compiled.clear();
  });

  it("CS-2: refuses other uploads, other tensors from outside, tensors left alive, and what says so itself", async () => {
    const reasons: string[] = [];
    const refusal = async (work: (inputs: NamedTensors) => Tensor) => {
      const compiled = new Compiled("work", { onRefused: (reason) => reasons.push(reason) });
      for (let i = 0; i < 5; i++) await values(compiled, () => ({ x: input(1, 2) }), work);
      assert.equal(compiled.statistics.replayed, 0);
      compiled.clear();
    };
    let count = 0;
    await refusal(({ x }) => add(x, input(count++, 0)));
    const left: Tensor[] = [], outside: Tensor[] = [];
    await refusal(({ x }) => {
      const kept = scale(x, 2);
      kept.scope!.keep(kept);
      left.push(kept);
      return scale(kept, 2);
    });
    outside.push(full([1, 2], 1), full([1, 2], 2), full([1, 2], 3), full([1, 2], 4), full([1, 2], 5));
    count = 0;
    await refusal(({ x }) => add(x, outside[count++]));
    await refusal(({ x }) => (refuseRecording("it asks for the time"), scale(x, 1)));
    await refusal(({ x }) => x);
    assert.equal(reasons.length, 5, reasons.join("\n"));
    assert.match(reasons[0], /upload: other data were uploaded the second time into f32 \(1, 2\)/);
    assert.match(reasons[1], /f32 \(1, 2\), made inside and first used by scale, lives on/);
    assert.match(reasons[2], /add: operand 1, f32 \(1, 2\), is another tensor from outside/);
    assert.match(reasons[3], /it asks for the time/);
    assert.match(reasons[4], /output 0.*is an input/);
    for (const tensor of [...left, ...outside]) tensor.dispose();
  });

  it("CS-2: is recorded afresh after a tensor from outside was replaced", async () => {
    const compiled = new Compiled("work");
    let weight = full([1, 1], 2);
    const call = () => values(compiled, () => ({ x: input(3) }), ({ x }) => linear(x, weight));
    for (let i = 0; i < 4; i++) assert.deepEqual(await call(), [6]);
    weight.dispose();
    weight = full([1, 1], 5);
    for (let i = 0; i < 4; i++) assert.deepEqual(await call(), [15]);
    assert.deepEqual(counts(compiled.statistics), { recorded: 4, replayed: 2, eager: 2 });
    compiled.clear();
    weight.dispose();
  });

  it("CS-3: gives tensors of their own each time", async () => {
    const compiled = new Compiled("work"), kept: Tensor[] = [];
    for (let i = 0; i < 5; i++) {
      const x = input(i);
      kept.push(compiled.run({ x }, () => ({ y: scale(x, 10) })).y);
      x.dispose();
    }
    assert.deepEqual(await Promise.all(kept.map((tensor) => tensor.item())), [0, 10, 20, 30, 40]);
    for (const tensor of kept) tensor.dispose();
    compiled.clear();
  });

  it("CS-4: lets a tape see every op", async () => {
    const compiled = new Compiled("work"), scope = new Scope("tape"), weight = full([1, 1], 4);
    weight.requiresGrad = true;
    for (let i = 0; i < 4; i++) await values(compiled, () => ({ x: input(2) }), ({ x }) => linear(x, weight));
    const gradient = scope.enter(() => {
      const tape = new Tape(), x = input(2);
      const { y } = tape.record(() => compiled.run({ x }, () => ({ y: linear(x, weight) })));
      return tape.backward([[y, full([1, 1], 1)]]).get(weight)!;
    });
    assert.equal(await gradient.item(), 2);
    assert.equal(compiled.statistics.eager, 2);
    scope.close();
    compiled.clear();
    weight.dispose();
  });

  it("lets an error of the work through, and works on afterwards", async () => {
    const compiled = new Compiled("work");
    let fails = true;
    const call = () => values(compiled, () => ({ x: input(1, 2) }), ({ x }) => (fails ? linear(x, full([3, 3], 1)) : scale(x, 2)));
    await assert.rejects(call, code("ERR_SHAPE"));
    await fence();
    fails = false;
    for (let i = 0; i < 3; i++) assert.deepEqual(await call(), [2, 4]);
    assert.equal(compiled.statistics.replayed, 1);
    compiled.clear();
  });

  it("CS-5: takes inputs from the host: uploaded while it runs, with the replay afterwards, and freed", async () => {
    const compiled = new Compiled("work"), weight = full([2], 10);
    for (let i = 0; i < 6; i++) {
      const scope = new Scope("call"), outer = memory().tensors;
      const { y } = scope.enter(() => compiled.run({ x: { dtype: "f32", shape: [2], data: Float32Array.of(i, 1) } }, ({ x }) => ({ y: add(x, weight) })));
      assert.equal(memory().tensors, outer + 1, "only the output is left");
      assert.deepEqual([...await y.readNumbers()], [i + 10, 11]);
      scope.close();
    }
    assert.deepEqual(counts(compiled.statistics), { recorded: 2, replayed: 3, eager: 1 });
    compiled.clear();
    weight.dispose();
  });

  it("CS-5: what it uploads inside a tape lives until that is walked back", async () => {
    const compiled = new Compiled("work"), scope = new Scope("tape"), weight = full([1], 4), tape = new Tape();
    weight.requiresGrad = true;
    const gradient = scope.enter(() => {
      const { y } = tape.record(() => compiled.run({ x: { dtype: "f32", shape: [1], data: Float32Array.of(3) } }, ({ x }) => ({ y: mul(x, weight) })));
      return tape.backward([[y, full([1], 1)]]).get(weight)!;
    });
    assert.equal(await gradient.item(), 3);
    scope.close();
    weight.dispose();
  });
});

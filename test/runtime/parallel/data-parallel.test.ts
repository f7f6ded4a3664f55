import assert from "node:assert/strict";
import { GradientTree } from "../../../runtime/autograd/index.ts";
import { Parameter, materialise, release } from "../../../runtime/nn/index.ts";
import { bucketsOf, packed, unpack } from "../../../runtime/parallel/sharing/buckets.ts";
import type { Group } from "../../../runtime/parallel/groups/collectives.ts";
import { Shares } from "../../../runtime/parallel/sharing/sharded-state.ts";
import { DataCopies } from "../../../runtime/parallel/sharing/data-parallel.ts";
import { Scope, type Tensor, fence, fromArray, memory, zeros } from "../../../runtime/tensor/index.ts";
import { type PlayedGroup, played } from "./played-group.ts";

const shapes = { a: [3, 2], b: [5], c: [300, 300], d: [7], e: [2, 2] } as const;
const sizes = { a: 6, b: 5, c: 90000, d: 7, e: 4 } as const;
const names = Object.keys(shapes) as (keyof typeof shapes)[];
/** Numbers whose sums show the order in which they are added. */
const gradientOf = (name: keyof typeof shapes, microbatch: number): Tensor =>
  fromArray(Float32Array.from({ length: sizes[name] }, (_, i) => Math.fround(Math.sin(i + 1 + 17 * microbatch) * 10 ** ((i + microbatch) % 5))), shapes[name]);

/** What one process has after its tree over `count` microbatches. */
function treeSum(count: number, from = 0): Map<string, Tensor> {
  const tree = new GradientTree(count);
  for (let m = 0; m < count; m++) tree.push(m, new Map(names.map((name) => [name, gradientOf(name, from + m)])));
  return tree.result();
}

const read = async (tensors: ReadonlyMap<string, Tensor>): Promise<Record<string, number[]>> => {
  const found: Record<string, number[]> = {};
  for (const [name, tensor] of tensors) found[name] = Array.from(await tensor.readNumbers());
  for (const tensor of tensors.values()) tensor.dispose();
  return found;
};

function copiesOf(group: PlayedGroup, parameters: Record<string, Parameter>, zero: number): { copies: DataCopies; shares: Shares } {
  const shares = new Shares(Object.entries(parameters), group.rank, group.size, zero);
  return { copies: new DataCopies(group as unknown as Group, parameters, shares), shares };
}

const freeAll = (tensors: ReadonlyMap<string, Tensor>): void => tensors.forEach((tensor) => tensor.dispose());

const model = (): Record<string, Parameter> => ({ ...Object.fromEntries(names.map((name) => [name, new Parameter(shapes[name], { kind: "normal", std: 1 })])), frozen: new Parameter([4], { kind: "zeros" }, { trainable: false }) });

describe("data copies", () => {
  it("have the bits of one process: each sums its share, then the group adds the shares (DP-1)", async () => {
    const one = await read(treeSum(8));
    for (const copies of [2, 4]) {
      const share = 8 / copies, parameters = model();
      const { results } = played(copies, (group) => copiesOf(group, parameters, 0).copies.reduce(treeSum(share, group.rank * share)), freeAll);
      const got = await Promise.all(results.slice(0, copies).map(read));
      for (const each of got) assert.deepEqual(each, one, `${copies} copies`);
    }
  });

  it("with zero 2 leave every sum with its owner and free the rest", async () => {
    const one = await read(treeSum(2)), parameters = model();
    const { results } = played(2, (group) => {
      const { copies, shares } = copiesOf(group, parameters, 2), mine = copies.reduce(treeSum(1, group.rank));
      return { mine, steps: names.filter((name) => shares.steps(name)), reports: names.filter((name) => shares.reports(name)) };
    }, ({ mine }) => freeAll(mine));
    assert.deepEqual(results.map(({ steps }) => steps), [["c"], ["a", "b", "d", "e"]], "the largest to the first, the rest to the other");
    for (const { mine, steps, reports } of results) {
      assert.deepEqual(reports, steps);
      assert.deepEqual(await read(mine), Object.fromEntries(steps.map((name) => [name, one[name]])));
    }
  });

  it("report once and save once, whoever it is", () => {
    for (const zero of [0, 1, 2, 3]) {
      const results = [0, 1, 2].map((copy) => {
        const shares = new Shares(Object.entries(model()), copy, 3, zero);
        return [...names, "frozen"].map((name) => [shares.saves(name), shares.reports(name)]);
      });
      for (let i = 0; i <= names.length; i++) {
        assert.equal(results.filter((each) => each[i][0]).length, 1, `zero ${zero} saves ${[...names, "frozen"][i]}`);
        if (i < names.length) assert.equal(results.filter((each) => each[i][1]).length, 1, `zero ${zero} reports ${names[i]}`);
      }
    }
  });

  it("get the owners' values after a step (zero 1)", async () => {
    const { results } = played(2, (group) => {
      const parameters = model();
      materialise(parameters, { seed: 1, prefix: "" });
      const { copies, shares } = copiesOf(group, parameters, 1);
      for (const name of names) if (shares.steps(name)) parameters[name].value.write(new Float32Array(sizes[name]).fill(100 + group.rank));
      copies.spread(parameters, names);
      return parameters;
    }, release);
    for (const parameters of results) {
      assert.deepEqual(await Promise.all(names.map(async (name) => [...new Set(await parameters[name].value.readNumbers())])), [[101], [101], [100], [101], [101]]);
      release(parameters);
    }
  });

  it("have values only while a component runs, and the same tensor each time (zero 3, ZS-3)", async () => {
    const before = memory().bytesInUse;
    const { results } = played(2, (group) => {
      const parameters = model();
      materialise(parameters, { seed: 1, prefix: "" });
      const own = names.map((name) => parameters[name].value), whole = memory().bytesInUse - before;
      const { values } = copiesOf(group, parameters, 3).copies, shared = memory().bytesInUse - before;
      const both = Object.entries(parameters);
      values!.take(both);
      values!.take(both);
      values!.leave(both);
      const running = memory().bytesInUse - before;
      assert.deepEqual(names.map((name) => parameters[name].value), own);
      return { parameters, values: values!, both, bytes: [whole, running, shared].map((n) => n - shared) };
    }, ({ parameters }) => release(parameters));
    for (const [rank, { parameters, values, both, bytes }] of results.entries()) {
      assert.ok(bytes[0] === bytes[1] && bytes[2] === 0 && bytes[0] >= (rank === 0 ? 22 : 90000) * 4, bytes.join());
      const expected = model();
      materialise(expected, { seed: 1, prefix: "" });
      for (const name of names) assert.deepEqual(await parameters[name].value.read(), await expected[name].value.read(), name);
      release(expected);
      values.leave(both);
      assert.throws(() => parameters[rank === 0 ? "a" : "c"].value.write(new Float32Array(sizes[rank === 0 ? "a" : "c"])), { code: "ERR_HANDLE" });
    }
    for (const { parameters } of results) release(parameters);
  }).timeout(20_000);

  it("send small tensors together and large ones alone, in the same runs everywhere", () => {
    const { calls, results } = played(2, (group) => copiesOf(group, model(), 0).copies.reduce(treeSum(1)), freeAll);
    assert.deepEqual(calls, ["allReduce 22", "allReduce 90000"]);
    results.forEach(freeAll);
  });
});

describe("a bucket", () => {
  it("holds what fits, of one dtype, in order", () => {
    const scope = new Scope("buckets");
    scope.enter(() => {
      const of = (size: number, dtype: "f32" | "f64" = "f32") => ({ tensor: zeros([size], dtype) });
      const found = bucketsOf([of(10), of(0), of(20), of(100_000), of(5, "f64"), of(30), ...Array.from({ length: 20 }, () => of(65_536))]);
      assert.deepEqual(found.map((bucket) => bucket.map(({ tensor }) => tensor.size)), [[10, 20], [100_000], [5], [30, ...Array(15).fill(65_536)], Array(5).fill(65_536)]);
    });
    scope.close();
  });

  it("packs any number of tensors and gives them back", async () => {
    const scope = new Scope("packing");
    const tensors = scope.enter(() => Array.from({ length: 70 }, (_, i) => fromArray(Float32Array.of(i, i + 0.5), [1, 2])));
    const flat = scope.enter(() => packed(tensors));
    assert.deepEqual(Array.from(await flat.readNumbers()), tensors.flatMap((_, i) => [i, i + 0.5]));
    const targets = scope.enter(() => tensors.map(() => zeros([2])));
    unpack(flat, targets);
    assert.deepEqual(Array.from(await targets[69].readNumbers()), [69, 69.5]);
    flat.dispose();
    scope.close();
    await fence();
  });
});

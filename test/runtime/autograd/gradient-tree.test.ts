import assert from "node:assert/strict";
import { GradientTree } from "../../../runtime/autograd/index.ts";
import { type HostArray, type Tensor, memory } from "../../../runtime/tensor/index.ts";
import { code, noLeaks, randn } from "../numbers.ts";

const gradient = (microbatch: number): Tensor => randn([64], { seed: 100 + microbatch, dtype: "f32" });

async function sumOf(order: readonly number[], count = order.length): Promise<HostArray> {
  const tree = new GradientTree(count);
  for (const index of order) tree.push(index, new Map([["w", gradient(index)]]));
  const sum = tree.result().get("w")!;
  const values = await sum.read();
  sum.dispose();
  return values;
}

describe("GradientTree", () => {
  noLeaks();

  it("G-1: gives the same bits whatever the order of arrival", async () => {
    for (const count of [1, 2, 3, 4, 5, 6, 7, 8, 12]) {
      const order = Array.from({ length: count }, (_, i) => i);
      const forward = await sumOf(order);
      assert.deepEqual(await sumOf([...order].reverse()), forward, `${count} microbatches, reversed`);
      assert.deepEqual(await sumOf([...order.filter((i) => i % 2), ...order.filter((i) => i % 2 === 0)]), forward, `${count}, odd ones first`);
    }
  });

  it("adds as a tree: (0 + 1) + (2 + 3), in f32", async () => {
    const parts = await Promise.all([0, 1, 2, 3].map(async (i) => {
      const tensor = gradient(i);
      const values = await tensor.read();
      tensor.dispose();
      return values as Float32Array;
    }));
    const f = Math.fround;
    assert.deepEqual(await sumOf([2, 0, 3, 1]), parts[0].map((a, i) => f(f(a + parts[1][i]) + f(parts[2][i] + parts[3][i]))));
  });

  it("G-2: two ranks that sum their own halves give the same bits as one", async () => {
    for (const count of [4, 8, 12]) {
      const whole = await sumOf(Array.from({ length: count }, (_, i) => i));
      const ranks = [0, 1].map((rank) => {
        const tree = new GradientTree(count / 2);
        for (let i = 0; i < count / 2; i++) tree.push(i, new Map([["w", gradient(rank * (count / 2) + i)]]));
        return tree.result();
      });
      const across = new GradientTree(2);
      ranks.forEach((sum, rank) => across.push(rank, sum));
      const sum = across.result().get("w")!;
      assert.deepEqual(await sum.read(), whole, `${count} microbatches`);
      sum.dispose();
    }
  });

  it("G-3: holds one partial sum per level when microbatches come in order", () => {
    const before = memory().tensors;
    const tree = new GradientTree(8);
    const alive = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => (tree.push(i, new Map([["w", gradient(i)]])), memory().tensors - before));
    assert.deepEqual(alive, [1, 1, 2, 1, 2, 2, 3, 1]);
    tree.result().get("w")!.dispose();
  });

  it("takes a parameter that only some microbatches have a gradient for", async () => {
    const tree = new GradientTree(2);
    tree.push(0, new Map([["a", gradient(0)]]));
    tree.push(1, new Map([["b", gradient(1)]]));
    const result = tree.result();
    assert.deepEqual([...result.keys()].sort(), ["a", "b"]);
    for (const tensor of result.values()) tensor.dispose();
  });

  it("says which microbatches are missing, refuses one twice, and frees what it holds when given up", () => {
    const tree = new GradientTree(3);
    tree.push(1, new Map([["w", gradient(1)]]));
    assert.throws(() => tree.result(), code("ERR_INPUT", /microbatches 0, 2 have not come/));
    assert.throws(() => tree.push(1, new Map()), code("ERR_INPUT", /already there/));
    assert.throws(() => tree.push(3, new Map()), code("ERR_INPUT", /not one of 0..2/));
    tree.dispose();
  });
});

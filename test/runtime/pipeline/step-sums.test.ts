import assert from "node:assert/strict";
import { Parameter } from "../../../runtime/nn/index.ts";
import type { DataCopies } from "../../../runtime/parallel/index.ts";
import type { GraphNode } from "../../../runtime/pipeline/graph/graph.ts";
import { collectOffers, groupsOf } from "../../../runtime/pipeline/run/rank-groups.ts";
import { ranksOf } from "../../../runtime/pipeline/plan/layout.ts";
import { StepSums } from "../../../runtime/pipeline/run/step-sums.ts";
import { type Tensor, fromArray } from "../../../runtime/tensor/index.ts";

const node = (name: string, ...parameters: string[]): GraphNode =>
  ({ name, trainable: parameters.length > 0, parameters: Object.fromEntries(parameters.map((each) => [each, new Parameter([1], { kind: "zeros" })])) }) as unknown as GraphNode;
const nodes = [node("text", "t"), node("loss"), node("fusion", "f", "g")];
const of = (values: Record<string, number>): Map<string, Tensor> => new Map(Object.entries(values).map(([name, value]) => [name, fromArray([value], [1])]));
const read = async (tensors: ReadonlyMap<string, Tensor>): Promise<Record<string, number>> =>
  Object.fromEntries(await Promise.all([...tensors].map(async ([name, tensor]) => [name, await tensor.item(), tensor.dispose()].slice(0, 2) as [string, number])));

describe("what a rank adds up", () => {
  /** Copies that note what they are asked for, and keep `t` elsewhere. */
  function noting(): { copies: DataCopies; log: string[] } {
    const log: string[] = [];
    const copies = {
      reduce: (found: ReadonlyMap<string, Tensor>) => {
        log.push(`reduce ${[...found.keys()].join()}`);
        found.get("t")?.dispose();
        return new Map([...found].filter(([name]) => name !== "t"));
      },
      sum: (found: ReadonlyMap<string, Tensor>) => void log.push(`sum ${[...found.keys()].join()}`),
    };
    return { copies: copies as unknown as DataCopies, log };
  }
  const microbatch = (sums: StepSums, m: number): void => {
    sums.push([nodes[2]], m, of({ f: m, g: 10 * m }));
    sums.push([nodes[0], nodes[1]], m, of({ t: 100 * m }));
    sums.pushSums("all", m, of({ "codes.count": 1 }));
  };

  it("is the sum of its own microbatches, by name", async () => {
    const sums = new StepSums({ nodes, share: { first: 4, count: 2 }, early: false });
    microbatch(sums, 5);
    microbatch(sums, 4);
    const { gradients, moved, sums: counted } = sums.result();
    assert.deepEqual(moved, ["t", "f", "g"]);
    assert.deepEqual(await read(gradients), { t: 900, f: 9, g: 90 });
    assert.deepEqual(await read(counted), { "codes.count": 2 });
  });

  it("goes to the copies at the end, in the order of the graph; what they keep elsewhere has moved too (SS-2)", async () => {
    const { copies, log } = noting(), sums = new StepSums({ nodes, share: { first: 0, count: 1 }, copies, early: false });
    microbatch(sums, 0);
    assert.deepEqual(log, []);
    const { gradients, moved, sums: counted } = sums.result();
    assert.deepEqual(log, ["reduce t", "reduce f,g", "sum codes.count"]);
    assert.deepEqual(moved, ["t", "f", "g"]);
    assert.deepEqual(Object.keys(await read(gradients)), ["f", "g"]);
    await read(counted);
  });

  it("goes as soon as a component is complete where that is wanted", async () => {
    const { copies, log } = noting(), sums = new StepSums({ nodes, share: { first: 0, count: 2 }, copies, early: true });
    sums.push([nodes[2]], 0, of({ f: 1, g: 1 }));
    sums.push([nodes[2]], 1, of({ f: 2 }));
    assert.deepEqual(log, ["reduce f,g"], "text is still to come");
    sums.push([nodes[0]], 0, of({ t: 1 }));
    sums.push([nodes[0]], 1, new Map());
    assert.deepEqual(log, ["reduce f,g", "reduce t"]);
    const { gradients } = sums.result();
    assert.deepEqual(await read(gradients), { f: 3, g: 1 }, "a microbatch without a gradient adds nothing");
  });

  it("frees everything when the step is given up", () => {
    const { copies } = noting(), sums = new StepSums({ nodes, share: { first: 0, count: 2 }, copies, early: true });
    microbatch(sums, 0);
    sums.push([nodes[2]], 1, of({ f: 2 }));
    sums.dispose();
  });
});

describe("the groups of a rank", () => {
  const ranks = ranksOf({ name: "text", stages: ["text"], learns: true, layout: { data: 2, tensor: 2, context: 1 } });

  it("are along its axes, named after what is the same for all members (GR-1)", () => {
    assert.deepEqual(groupsOf(ranks[1], ranks), [
      { axis: "data", name: "data of text-t1", members: ["text-d0-t1", "text-d1-t1"], rank: 0 },
      { axis: "tensor", name: "tensor of text-d0", members: ["text-d0-t0", "text-d0-t1"], rank: 1 },
    ]);
  });

  it("get the offers of all members in their order (GR-2)", () => {
    const offered = new Map(ranks.map((rank) => [rank.name, Object.fromEntries(groupsOf(rank, ranks).map(({ name }) => [name, { member: rank.name } as never]))]));
    const all = collectOffers(ranks, offered);
    assert.deepEqual(Object.keys(all).sort(), ["data of text-t0", "data of text-t1", "tensor of text-d0", "tensor of text-d1"]);
    assert.deepEqual(all["data of text-t1"].map(({ member }) => member), ["text-d0-t1", "text-d1-t1"]);
  });
});

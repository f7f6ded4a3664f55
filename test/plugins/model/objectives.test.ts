import assert from "node:assert/strict";
import { fromArray, Tape, type Plugin, type Tensor } from "../../../runtime/index.ts";
import { answer, type AnswerObjective } from "../../../plugins/objective/answer.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { mimTeacher } from "../../../plugins/objective/mim-teacher.ts";
import { mlm } from "../../../plugins/objective/mlm.ts";
import { splitByKind } from "../../../plugins/objective/split-labels.ts";
import { wpa } from "../../../plugins/objective/wpa.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, sum, vector } from "./harness.ts";

const input = (name: string, shape: number[]): Tensor => fromArray(fill(name, shape), shape, "f64");
const exact = 1e-12;

/** Forward of one objective in f64, with filled or given parameters. */
function evaluate(plugin: Plugin, options: Record<string, unknown>, inputs: () => Record<string, Tensor>, counts: Record<string, number>, given?: Record<string, ArrayLike<number>>) {
  const objective = build(plugin, options);
  fillParameters(objective, "f64", { given });
  return compute(() => objective.forward(inputs(), context({ training: true, counts })), objective);
}

/** Gradient of `loss` with respect to the named input. */
function gradientOf(plugin: Plugin, options: Record<string, unknown>, inputs: () => Record<string, Tensor>, wanted: string, counts: Record<string, number>) {
  const objective = build(plugin, options);
  fillParameters(objective, "f64");
  return compute(() => {
    const tape = new Tape();
    const given = inputs();
    tape.watch(given[wanted]);
    const { loss } = tape.record(() => objective.forward(given, context({ training: true, counts })));
    return { loss, gradient: tape.backward([[loss, fromArray([1], [1], "f64")]]).get(given[wanted])! };
  }, objective);
}

// A page of 1 + 4 image tokens and 4 text tokens.
const pages = { memory: [2, 9, 6] };

describe("objective/mlm", () => {
  const options = { width: 6, text_width: 5, vocabulary: 7, grid: 2 };
  const states = () => ({ memory: input("memory", pages.memory), embedding: input("table", [7, 5]) });
  const byIndex = () => ({ ...states(), mlm_index: vector([1, 2, 7]), mlm_targets: vector([3, 0, 6]) });
  const byLabels = () => ({ ...states(), labels: ids([[-100, 3, 0, -100], [-100, -100, -100, 6]]) });

  it("gives the same loss by index as by labels, and the loss of a straight calculation", async () => {
    const [{ loss: index }, { loss: dense }] = [
      await evaluate(mlm, options, byIndex, { mlm_tokens: 3 }), await evaluate(mlm, options, byLabels, { mlm_tokens: 3 })];
    assertClose(index, dense, exact, "loss");

    const memory = fill("memory", pages.memory), table = fill("table", [7, 5]);
    const losses = [[1, 3], [2, 0], [7, 6]].map(([flat, target]) => {
      const [page, token] = [Math.floor(flat / 4), flat % 4];
      const state = memory.slice((page * 9 + 5 + token) * 6, (page * 9 + 6 + token) * 6);
      const hidden = layerNorm(affine("head.mlm.dense", state, 5).map(gelu), "head.mlm.ln", 1e-5);
      const bias = fill("head.mlm.bias", [7], 0.1);
      const logits = Array.from(bias, (b, v) => b + sum(hidden.map((h, c) => h * table[v * 5 + c])));
      return Math.log(sum(logits.map(Math.exp))) - logits[target];
    });
    assertClose(index, [sum(losses) / 3], 1e-9, "loss");
  });

  it("adds up over microbatches to the mean of the batch", async () => {
    const [whole] = (await evaluate(mlm, options, byIndex, { mlm_tokens: 3 })).loss;
    const half = (page: number, index: number[], targets: number[]) => () => ({
      memory: fromArray(fill("memory", pages.memory).slice(page * 54, page * 54 + 54), [1, 9, 6], "f64"), embedding: input("table", [7, 5]),
      mlm_index: vector(index), mlm_targets: vector(targets),
    });
    const parts = [await evaluate(mlm, options, half(0, [1, 2], [3, 0]), { mlm_tokens: 3 }), await evaluate(mlm, options, half(1, [3], [6]), { mlm_tokens: 3 })];
    assertClose([parts[0].loss[0] + parts[1].loss[0]], [whole], exact, "sum of the parts");
  });

  it("gives zero and a zero gradient when nothing is masked, here or anywhere", async () => {
    for (const count of [0, 5]) {
      const { loss, gradient } = await gradientOf(mlm, options, () => ({ ...states(), mlm_index: vector([]), mlm_targets: vector([]) }), "memory", { mlm_tokens: count });
      assert.deepEqual(loss, [0]);
      assert.deepEqual(gradient, new Array(2 * 9 * 6).fill(0));
    }
  });

  it("says what to connect when it gets neither labels nor an index, and which count is missing", async () => {
    await assert.rejects(evaluate(mlm, options, states, { mlm_tokens: 1 }), { code: "ERR_RECIPE", message: /mlm_index and mlm_targets together, or labels alone/ });
    await assert.rejects(evaluate(mlm, options, byIndex, { mim_patches: 1 }), { code: "ERR_DATA", message: /"mlm_tokens".*counts: mim_patches/ });
  });
});

describe("objective/mim-teacher", () => {
  const options = { width: 6, targets: 6, grid: 2 };
  const identity = Float64Array.from({ length: 36 }, (_, i) => Number(i % 7 === 0));
  const none = new Float64Array(6);
  const inputs = (index: number[]) => () => ({ memory: input("memory", pages.memory), targets: input("targets", [2, 4, 6]), mim_index: vector(index) });

  it("averages one minus the cosine over masked patches", async () => {
    const { loss } = await evaluate(mimTeacher, options, inputs([0, 6]), { mim_patches: 2 }, { "head.mim.out.weight": identity, "head.mim.out.bias": none });
    const memory = fill("memory", pages.memory), targets = fill("targets", [2, 4, 6]);
    const cosine = (a: Float64Array, b: Float64Array) => sum(a.map((x, i) => x * b[i])) / Math.hypot(...a) / Math.hypot(...b);
    const patch = (page: number, p: number) => 1 - cosine(memory.slice((page * 9 + 1 + p) * 6, (page * 9 + 2 + p) * 6), targets.slice((page * 4 + p) * 6, (page * 4 + p + 1) * 6));
    assertClose(loss, [(patch(0, 0) + patch(1, 2)) / 2], exact, "loss");
  });

  it("gives zero when no patch is masked", async () => {
    const { loss, gradient } = await gradientOf(mimTeacher, options, inputs([]), "memory", { mim_patches: 0 });
    assert.deepEqual(loss, [0]);
    assert.ok(gradient.every((g) => g === 0));
  });
});

describe("objective/mim-codes", () => {
  const options = { width: 6, codes: 5, grid: 2 };
  const inputs = (index: number[]) => () => ({ memory: input("memory", pages.memory), codes: ids([[4, 0, 1, 2], [3, 3, 2, 0]]), mim_index: vector(index) });

  it("averages the cross-entropy of the codes over masked patches", async () => {
    const { loss } = await evaluate(mimCodes, options, inputs([0, 6, 7]), { mim_patches: 3 });
    const memory = fill("memory", pages.memory);
    const costs = [[0, 0, 4], [1, 2, 2], [1, 3, 0]].map(([page, patch, code]) => {
      const logits = affine("head.mim.out", memory.slice((page * 9 + 1 + patch) * 6, (page * 9 + 2 + patch) * 6), 5);
      return Math.log(sum(logits.map(Math.exp))) - logits[code];
    });
    assertClose(loss, [sum(costs) / 3], exact, "loss");
  });

  it("costs ln K per masked patch when the head knows nothing, times the weight", async () => {
    const nothing = { "head.mim.out.weight": new Float64Array(30), "head.mim.out.bias": new Float64Array(5) };
    const { loss } = await evaluate(mimCodes, { ...options, weight: 2 }, inputs([0, 6, 7]), { mim_patches: 3 }, nothing);
    assertClose(loss, [2 * Math.log(5)], exact, "loss");
  });

  it("gives zero when no patch is masked", async () => {
    const { loss, gradient } = await gradientOf(mimCodes, options, inputs([]), "memory", { mim_patches: 0 });
    assert.deepEqual(loss, [0]);
    assert.ok(gradient.every((g) => g === 0));
  });
});

describe("objective/wpa", () => {
  const options = { width: 6, grid: 2 };
  const inputs = (labels: number[][]) => () => ({ memory: input("memory", pages.memory), labels: ids(labels) });

  it("costs ln 2 per labelled token when the head knows nothing", async () => {
    const { loss } = await evaluate(wpa, options, inputs([[1, 0, -100, 1], [-100, -100, 0, 1]]), { wpa_tokens: 5 },
      { "head.wpa.2.weight": new Float64Array(6), "head.wpa.2.bias": [0] });
    assertClose(loss, [Math.LN2], exact, "loss");
  });

  it("asks about text tokens only, in their order", async () => {
    const bias = { "head.wpa.2.weight": Float64Array.from(fill("w", [6])), "head.wpa.2.bias": [0] };
    const memory = fill("memory", pages.memory);
    const state = memory.slice((9 + 5 + 2) * 6, (9 + 5 + 3) * 6);   // page 1, token 2
    const logit = sum(affine("head.wpa.0", state, 6).map(gelu).map((h, c) => h * fill("w", [6])[c]));
    const { loss } = await evaluate(wpa, options, inputs([[-100, -100, -100, -100], [-100, -100, 1, -100]]), { wpa_tokens: 1 }, bias);
    assertClose(loss, [Math.log(1 + Math.exp(-logit))], 1e-9, "loss");
  });

  it("gives zero when no token is asked about", async () => {
    const { loss, gradient } = await gradientOf(wpa, options, inputs([[-100, -100, -100, -100], [-100, -100, -100, -100]]), "memory", { wpa_tokens: 0 });
    assert.deepEqual(loss, [0]);
    assert.ok(gradient.every((g) => g === 0));
  });
});

describe("objective/answer", () => {
  // Ids 2, 3 are location tokens of a vocabulary of 7.
  const options = { width: 6, vocabulary: 7, location_base: 2, location_bins: 2 };
  const counts = { answer_text_tokens: 3, answer_loc_tokens: 2, boxes: 1 };
  const tokens = { dec_index: [0, 1, 2, 4, 5], dec_targets: [4, 2, 3, 6, 1] };
  const inputs = (boxes: { at: number[]; targets: number[] }, labels: Record<string, () => Tensor>) => () => ({
    hidden: input("hidden", [2, 4, 6]), embedding: input("table", [7, 6]),
    box_targets: fromArray(Float64Array.from(boxes.targets), [boxes.at.length, 4], "f64"), box_index: vector(boxes.at),
    ...Object.fromEntries(Object.entries(labels).map(([name, make]) => [name, make()])),
  });
  const byIndex = { dec_index: () => vector(tokens.dec_index), dec_targets: () => vector(tokens.dec_targets) };
  const byLabels = { labels: () => ids([[4, 2, 3, -100], [6, 1, -100, -100]]) };
  const oneBox = { at: [1], targets: [0.25, 0.25, 0.5, 0.5] };
  // A head that knows nothing: sigmoid(0), the box (.5, .5, .5, .5), that is corners (.25, .25) to (.75, .75).
  const blank = { "head.box.2.weight": new Float64Array(24), "head.box.2.bias": new Float64Array(4) };

  it("splits labels into text and locations", async () => {
    const { text, location } = await compute(() => ({ ...splitByKind(vector([-100, 0, 1, 2, 3, 4, 130, 2047]), { from: 2, to: 4 }) }));
    assert.deepEqual(text, [-100, 0, 1, -100, -100, 4, 130, 2047]);
    assert.deepEqual(location, [-100, -100, -100, 2, 3, -100, -100, -100]);
  });

  it("averages text and location tokens apart, by index as by labels", async () => {
    const hidden = fill("hidden", [2, 4, 6]), table = fill("table", [7, 6]);
    const loss = (at: number, target: number) => {
      const logits = Array.from({ length: 7 }, (_, v) => sum(Array.from({ length: 6 }, (_, c) => hidden[at * 6 + c] * table[v * 6 + c])));
      return Math.log(sum(logits.map(Math.exp))) - logits[target];
    };
    const expected = { text: (loss(0, 4) + loss(4, 6) + loss(5, 1)) / 3, location: (loss(1, 2) + loss(2, 3)) / 2 };
    for (const labels of [byIndex, byLabels]) {
      const got = await evaluate(answer, options, inputs(oneBox, labels as Record<string, () => Tensor>), counts);
      assertClose(got.text_loss, [expected.text], 1e-10, "text");
      assertClose(got.loc_loss, [expected.location], 1e-10, "locations");
    }
  });

  it("spreads a location's truth over the bins around it where asked, and leaves text alone", async () => {
    const hidden = fill("hidden", [2, 4, 6]), table = fill("table", [7, 6]), sigma = 0.8;
    // Two bins: the neighbour has weight exp(-1 / (2 sigma²)), normalised.
    const neighbour = Math.exp(-1 / (2 * sigma ** 2)), share = neighbour / (1 + neighbour);
    const loss = (at: number, target: number) => {
      const logits = Array.from({ length: 7 }, (_, v) => sum(Array.from({ length: 6 }, (_, c) => hidden[at * 6 + c] * table[v * 6 + c])));
      return Math.log(sum(logits.map(Math.exp))) - (1 - share) * logits[target] - share * logits[5 - target]; // 2 and 3 are each other's neighbour
    };
    const [plain, spread] = await Promise.all([options, { ...options, location_sigma: sigma }].map((o) => evaluate(answer, o, inputs(oneBox, byIndex), counts)));
    assertClose(spread.loc_loss, [(loss(1, 2) + loss(2, 3)) / 2], 1e-10, "locations");
    assert.deepEqual(spread.text_loss, plain.text_loss);
    assert.notDeepEqual(spread.loc_loss, plain.loc_loss);
  });

  it("adds five times L1 and twice 1 - GIoU of the box head", async () => {
    const got = await evaluate(answer, options, inputs(oneBox, byIndex), counts, blank);
    // L1: |.25| twice. GIoU of (0,0,.5,.5) and (.25,.25,.75,.75): IoU 1/7, enclosing box 9/16 against a union of 7/16, -0.0793650794.
    assertClose(got.l1_loss, [0.5], exact, "L1");
    assertClose(got.giou_loss, [1.0793650794], 1e-9, "1 - GIoU");
    assertClose(got.loss, [got.text_loss[0] + got.loc_loss[0] + 5 * got.l1_loss[0] + 2 * got.giou_loss[0]], exact, "loss");
  });

  it("gives zero for boxes and locations where there are none, never NaN, and a gradient all the same", async () => {
    const empty = { at: [], targets: [] };
    const text = { dec_index: () => vector([0]), dec_targets: () => vector([5]) };
    const got = await evaluate(answer, options, inputs(empty, text), { answer_text_tokens: 1, answer_loc_tokens: 0, boxes: 0 });
    assert.deepEqual([got.loc_loss, got.l1_loss, got.giou_loss], [[0], [0], [0]]);
    assert.equal(got.loss[0], got.text_loss[0]);
    const nothing = { dec_index: () => vector([]), dec_targets: () => vector([]) };
    const { loss, gradient } = await gradientOf(answer, options, inputs(empty, nothing), "hidden", { answer_text_tokens: 0, answer_loc_tokens: 0, boxes: 0 });
    assert.deepEqual(loss, [0]);
    assert.deepEqual(gradient, new Array(2 * 4 * 6).fill(0));
  });

  it("reads boxes for answering with the same head", async () => {
    const objective = build<AnswerObjective>(answer, options);
    fillParameters(objective, "f64");
    const { boxes } = await compute(() => ({ boxes: objective.boxes(input("state", [1, 6])) }), objective);
    const relu = (x: number) => Math.max(0, x);
    const hidden = affine("head.box.1", affine("head.box.0", fill("state", [6]), 6).map(relu), 6).map(relu);
    assertClose(boxes, affine("head.box.2", hidden, 4).map((x) => 1 / (1 + Math.exp(-x))), 1e-10, "box");
  });
});

// The formulas again, in plain numbers.

function affine(name: string, x: ArrayLike<number>, out: number): number[] {
  const [weight, bias] = [fill(`${name}.weight`, [out, x.length], 0.2), fill(`${name}.bias`, [out], 0.1)];
  return Array.from(bias, (b, o) => b + sum(Array.from(x, (value, i) => value * weight[o * x.length + i])));
}

function layerNorm(x: number[], name: string, eps: number): number[] {
  const mean = sum(x) / x.length, variance = sum(x.map((v) => (v - mean) ** 2)) / x.length;
  const [weight, bias] = [fill(`${name}.weight`, [x.length], 0.1, 1), fill(`${name}.bias`, [x.length], 0.1)];
  return x.map((v, i) => ((v - mean) / Math.sqrt(variance + eps)) * weight[i] + bias[i]);
}

/** x Phi(x); Phi by the series of Abramowitz and Stegun 26.2.11, exact to rounding for the small x of these tests. */
function gelu(x: number): number {
  let term = x, total = x;
  for (let n = 3; n < 80; n += 2) total += term *= (x * x) / n;
  return x * (0.5 + (total * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI));
}

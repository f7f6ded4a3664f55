/** CLIP's two towers beside the original's numbers (golden-vision.test.ts): where a text ends, what learns and what does not. */
import assert from "node:assert/strict";
import { fromArray, materialise, release, Scope, Tape, type Tensor } from "../../../runtime/index.ts";
import { contrastive } from "../../../plugins/objective/contrastive.ts";
import { clip, miniClip } from "../../../plugins/teacher/clip.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask } from "./harness.ts";

const shape = { image: 8, patch: 4, width: 8, layers: 1, heads: 2, targets: 6, pixels: "none" };
const text = { vocabulary: 30, context: 6, width: 4, layers: 1, heads: 2 };
const pixels = (count = 1): Tensor => fromArray(fill("pixels", [count * 3 * 64]), [count, 3, 8, 8], "f64");
const embed = async (plugin: typeof clip, rows: number[][], real?: number[][]) => {
  const component = build(plugin, { ...shape, text });
  fillParameters(component, "f64");
  return compute(() => component.forward({ pixels: pixels(rows.length), text_ids: ids(rows), ...(real && { text_mask: mask(real) }) }, context()), component);
};

describe("teacher/clip", () => {
  it("reads a text at its highest id, the end of text, and nothing after it", async () => {
    const { text_embedding: known } = await embed(clip, [[3, 7, 29, 0, 0]]);
    const { text_embedding: other } = await embed(clip, [[3, 7, 29, 5, 1]]);
    assertClose(other, known, 1e-14, "what stands after the end");
    const { text_embedding: changed } = await embed(clip, [[4, 7, 29, 0, 0]]);
    assert.ok(Math.max(...changed.map((x, i) => Math.abs(x - known[i]))) > 1e-3, "what stands before it is read");
    const both = await embed(clip, [[3, 7, 29, 0, 0], [29, 1, 2, 3, 4]]);
    assertClose(both.text_embedding.slice(0, 6), known, 1e-14, "a text of a batch is read alone");
  });

  it("CL-1 is frozen, and keeps its scale as a logarithm", async () => {
    const component = build(clip, { ...shape, text });
    assert.equal(component.frozen, true);
    assert.deepEqual(Object.entries(component.parameters()).filter(([, parameter]) => parameter.trainable), []);
    materialise(component.parameters(), { seed: 1, prefix: "" });
    assert.ok(Math.abs(await component.parameters()["teacher.logit_scale"].value.item() - Math.log(1 / 0.07)) < 1e-6);
    release(component.parameters());
  });

  it("gives the image's class token as its embedding, and its patches as targets", async () => {
    const alone = await embed(clip, [[29]]);
    assert.deepEqual([alone.targets.length, alone.image_embedding.length], [4 * 6, 6]);
    assert.notDeepEqual(alone.targets.slice(0, 6), alone.image_embedding);
  });
});

describe("teacher/mini-clip", () => {
  it("reads a text at its last real token, whatever padding follows, and no further than its context", async () => {
    const { text_embedding: known } = await embed(miniClip, [[3, 7, 9]], [[1, 1, 1]]);
    const { text_embedding: padded } = await embed(miniClip, [[3, 7, 9, 28, 5]], [[1, 1, 1, 0, 0]]);
    assertClose(padded, known, 1e-14, "padded");
    const long = [3, 7, 9, 4, 5, 6];
    const cut = await embed(miniClip, [[...long, 8, 8]], [new Array(8).fill(1)]), whole = await embed(miniClip, [long], [new Array(6).fill(1)]);
    assertClose(cut.text_embedding, whole.text_embedding, 1e-14, "beyond its context");
    const empty = await embed(miniClip, [[0, 0, 0]], [[0, 0, 0]]);
    assert.ok(empty.text_embedding.every(Number.isFinite), "a page without text");
  });

  it("the keys' third of its biases gets a gradient of exactly zero", async () => {
    const component = build(miniClip, { ...shape, text }), objective = build(contrastive, { width: 6 });
    fillParameters(component, "f64");
    const scope = new Scope("key bias");
    try {
      const gradients = scope.enter(() => {
        const tape = new Tape();
        const loss = tape.record(() => {
          const { image_embedding: image, text_embedding: words, logit_scale } = component.forward(
            { pixels: pixels(3), text_ids: ids([[1, 5], [2, 6], [9, 4]]), text_mask: mask([[1, 1], [1, 0], [1, 1]]) }, context());
          return objective.forward({ image, text: words, logit_scale }, context()).loss;
        });
        return tape.backward([[loss, fromArray([1], [1], "f64")]]);
      });
      for (const [name, width] of [["teacher.visual.transformer", 8], ["teacher.transformer", 4]] as const) {
        const gradient = Array.from(await gradients.get(component.parameters()[`${name}.resblocks.0.attn.in_proj_bias`].value)!.read() as Float64Array);
        assert.deepEqual(gradient.slice(width, 2 * width), new Array(width).fill(0), name);
        assert.ok(gradient.slice(0, width).some((x) => x !== 0) && gradient.slice(2 * width).every((x) => x !== 0), name);
      }
    } finally {
      scope.close();
      release(component.parameters());
    }
  });

  it("CL-2 keeps its scale at ln 100 at most, and a loss sees no more than 100", async () => {
    const component = build(miniClip, { ...shape, text });
    const scaleOf = async (start: number) => {
      materialise(component.parameters(), { seed: 1, prefix: "", load: (name) => (name === "teacher.logit_scale" ? [start] : undefined) });
      const scope = new Scope("scale");
      scope.enter(() => component.afterStep!({}));
      scope.close();
      const value = await component.parameters()["teacher.logit_scale"].value.item();
      release(component.parameters());
      return value;
    };
    assert.ok(Math.abs(await scaleOf(6) - Math.log(100)) < 1e-6);
    assert.equal(await scaleOf(3), 3);
    const lossAt = async (start: number) => (await compute(() => build(contrastive, { width: 2 }).forward({
      image: fromArray([1, 0, 0, 1], [2, 2], "f64"), text: fromArray([0.9, 0.1, 0.2, 0.8], [2, 2], "f64"), logit_scale: fromArray([start], [1], "f64") }, context()))).loss[0];
    assert.equal(await lossAt(9), await lossAt(Math.log(100)));
    assert.notEqual(await lossAt(1), await lossAt(Math.log(100)));
  });
});

describe("objective/contrastive", () => {
  it("is the mean of both directions' cross-entropies of scaled cosines", async () => {
    const [image, words] = [[[3, 4], [1, 0]], [[0, 2], [5, 12]]], factor = Math.exp(1.5);
    const cosine = (a: number[], b: number[]) => (a[0] * b[0] + a[1] * b[1]) / (Math.hypot(...a) * Math.hypot(...b));
    const logits = image.map((i) => words.map((w) => factor * cosine(i, w)));
    const cost = (row: number[], own: number) => Math.log(row.reduce((total, x) => total + Math.exp(x), 0)) - row[own];
    const expected = [0, 1].reduce((total, i) => total + cost(logits[i], i) + cost(logits.map((row) => row[i]), i), 0) / 4;
    const { loss, accuracy } = await compute(() => build(contrastive, { width: 2 }).forward({
      image: fromArray(image.flat(), [2, 2], "f64"), text: fromArray(words.flat(), [2, 2], "f64"), logit_scale: fromArray([1.5], [1], "f64") }, context()));
    assertClose(loss, [expected], 1e-12, "loss");
    assert.equal(accuracy[0], image.filter((_, i) => logits[i].indexOf(Math.max(...logits[i])) === i).length / 2);
  });

  it("reads the memory's class token and the mean of its real text", async () => {
    const objective = build(contrastive, { source: "memory", width: 4, grid: 1 });
    const run = async (padding: number) => {
      fillParameters(objective, "f64");
      const memory = fill("memory", [2 * 4 * 4]);
      for (let c = 0; c < 4; c++) memory[4 * 3 + c] = padding; // the last text token of page 0, which is padding
      return (await compute(() => objective.forward({ memory: fromArray(memory, [2, 4, 4], "f64"), text_mask: mask([[1, 0], [1, 1]]) }, context()), objective)).loss;
    };
    assert.deepEqual(await run(7), await run(-1));
  });
});

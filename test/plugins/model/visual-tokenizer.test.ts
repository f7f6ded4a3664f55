import assert from "node:assert/strict";
import { fromArray, materialise, nn, release } from "../../../runtime/index.ts";
import { vqKd } from "../../../plugins/visual-tokenizer/vq-kd.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context } from "./harness.ts";

describe("visual-tokenizer/vq-kd", () => {
  const options = { image: 16, patch: 4, width: 8, heads: 2, codes: 32, dim: 4 };
  // A page in [0, 1], and how each network likes it.
  const page = fill("page", [3 * 256], 0.5, 0.5);
  const channel = (i: number) => Math.floor(i / 256);
  const forStudent = (image: Float64Array) => image.map((v, i) => (v - [0.485, 0.456, 0.406][channel(i)]) / [0.229, 0.224, 0.225][channel(i)]);
  const forTokenizer = (image: Float64Array) => image.map((v) => 2 * v - 1);

  type Given = Record<string, (fresh: Float64Array) => Float64Array>;
  /** Codes and z_q of one page; `given` changes fresh parameters by name. */
  const read = async (pixels: Float64Array, o: { seed?: number; pixels?: string; codes?: number } = {}, { runSeed = 1, given = {} as Given } = {}) => {
    const tokenizer = build(vqKd, { ...options, ...o });
    materialise(tokenizer.parameters(), { seed: runSeed, prefix: "", dtype: "f64",
      load: (name, { init, size, seed }) => given[name]?.(Float64Array.from(nn.initialValues(init, size, seed!, name))) });
    return compute(() => tokenizer.forward({ pixels: fromArray(pixels, [1, 3, 16, 16], "f64") }, context()), tokenizer);
  };

  it("VT-1 reads the same codes in every run, and others with another seed of its own", async () => {
    const { codes, z_q } = await read(forStudent(page));
    assert.deepEqual(await read(forStudent(page), {}, { runSeed: 2 }), { codes, z_q });
    const other = await read(forStudent(page), { seed: 1 });
    assert.notDeepEqual(other.codes, codes);
    assert.notDeepEqual(other.z_q, z_q);
  });

  it("VT-2 is frozen and has nothing to train", () => {
    const tokenizer = build(vqKd, options);
    assert.equal(tokenizer.frozen, true);
    assert.deepEqual(Object.entries(tokenizer.parameters()).filter(([, parameter]) => parameter.trainable), []);
    const { out } = vqKd.ports(vqKd.options.parse(options));
    assert.deepEqual([out.codes.gradient, out.z_q.gradient], [false, false]);
  });

  it("VT-3 has a codebook of unit rows, and does not look at the length of the encoder's output", async () => {
    const tokenizer = build(vqKd, options);
    materialise(tokenizer.parameters(), { seed: 1, prefix: "", dtype: "f64" });
    const codebook = await tokenizer.parameters()["tokenizer.quantize.embedding.weight"].value.read() as Float64Array;
    release(tokenizer.parameters());
    for (let k = 0; k < 32; k++) assertClose([Math.hypot(...codebook.slice(k * 4, k * 4 + 4))], [1], 1e-12, `length of code ${k}`);
    const longer = (values: Float64Array) => values.map((v) => 37 * v);
    const { codes } = await read(forStudent(page));
    const given = { "tokenizer.encode_task_layer.2.weight": longer, "tokenizer.encode_task_layer.2.bias": longer };
    assert.deepEqual((await read(forStudent(page), {}, { given })).codes, codes);
    assert.ok(new Set(codes).size >= 4, `16 patches of noise have the codes ${codes}`);
  });

  it("sees the student's pixels in [-1, 1], clamped to what an image can be", async () => {
    // Codes lie so densely that another normalisation of the page changes some of them, as the two inequalities say.
    const fine = { codes: 4096 };
    const direct = await read(forTokenizer(page), { pixels: "none", ...fine });
    assert.deepEqual((await read(forStudent(page), fine)).codes, direct.codes);
    assert.notDeepEqual((await read(page, { pixels: "none", ...fine })).codes, direct.codes, "the codes tell [0, 1] from [-1, 1]");
    const bright = page.map((v) => (v > 0.7 ? 1.5 : v < 0.3 ? -0.5 : v)), cut = bright.map((v) => Math.min(1, Math.max(0, v)));
    assert.deepEqual((await read(forStudent(bright), fine)).codes, (await read(forTokenizer(cut), { pixels: "none", ...fine })).codes);
    assert.notDeepEqual((await read(forTokenizer(bright), { pixels: "none", ...fine })).codes, (await read(forStudent(bright), fine)).codes);
  });
});

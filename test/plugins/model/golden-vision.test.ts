/**
 * What reads and names images against numbers from the original modules (BEiT v2 with its second branch, VQ-KD, its quantiser, CLIP),
 * in float64 with the weights of fill.ts.
 */
import assert from "node:assert/strict";
import {
  add, fromArray, l2Normalize, materialise, mul, nn, permute, release, scale, Scope, squaredError, sum as sumOf, Tape, type Tensor,
} from "../../../runtime/index.ts";
import { beit } from "../../../plugins/image-encoder/beit.ts";
import { mimCodes } from "../../../plugins/objective/mim-codes.ts";
import { vqKdLoss } from "../../../plugins/objective/vq-kd.ts";
import { clip } from "../../../plugins/teacher/clip.ts";
import { stubClip } from "../../../plugins/teacher/stub-clip.ts";
import { visionTower } from "../../../plugins/teacher/towers.ts";
import { codebook } from "../../../plugins/visual-tokenizer/codebook.ts";
import { vqKd } from "../../../plugins/visual-tokenizer/vq-kd.ts";
import { fill, fillWeight } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, precisions, sum, sumAbs, vector, type Precision } from "./harness.ts";

const input = (name: string, shape: number[], dtype: Precision): Tensor => fromArray(fill(name, shape), shape, dtype);
const without = (prefix: string) => (name: string) => name.slice(prefix.length);
const countOf = (parameters: nn.Parameters, of = (p: nn.Parameter) => p.trainable) =>
  Object.values(parameters).filter(of).reduce((total, { size }) => total + size, 0);

for (const { dtype, tolerance } of precisions) {
  // In f32 a sum of hundreds of elements carries as many rounding errors.
  const close = (got: number, expected: number, what: string, terms = 1) =>
    assertClose([got], [expected], dtype === "f32" ? tolerance * terms : tolerance, what);

  describe(`golden numbers of the vision side in ${dtype}`, () => {
    describe("G-BEIT: 32 x 32, patch 8, width 16, 2 layers, 2 heads, 11 codes, second branch from block 1 with 1 block", () => {
      const masked = [1, 2, 5, 6, 9, 10];
      /** Logits of all patches in both branches, and the loss over `index`, labels (7i + 3) mod 11. */
      const run = (options: Record<string, unknown>, hidden: number[] | undefined, index: number[]) => {
        const encoder = build(beit, { image: 32, patch: 8, width: 16, layers: 2, heads: 2, ...options });
        const cls_pt = "cls_pt" in options;
        const objective = build(mimCodes, { width: 16, grid: 4, codes: 11, states: "vision", cls_pt });
        for (const part of [encoder, objective]) fillParameters(part, dtype, { nameOf: without("vision.") });
        return compute(() => {
          const patch_mask = hidden && mask([Array.from({ length: 16 }, (_, i) => Number(hidden.includes(i)))]);
          const { states, cls_pt_states } = encoder.forward({ pixels: input("image", [1, 3, 32, 32], dtype), ...(patch_mask && { patch_mask }) }, context());
          const codes = ids([Array.from({ length: 16 }, (_, i) => (7 * i + 3) % 11)]);
          const head = nn.linear({ in: 16, out: 11 });
          materialise(head.parameters(), { seed: 0, prefix: "lm_head", dtype, load: (name, { shape }) => fillWeight(name, shape) });
          const logits = [states, cls_pt_states].filter(Boolean).map((each) => head.forward(each));
          release(head.parameters());
          return {
            ...objective.forward({ memory: states, codes, mim_index: vector(index), ...(cls_pt && { cls_pt_states }) }, context({ counts: { mim_patches: index.length } })),
            logits: logits[0], ...(cls_pt && { cls_pt_logits: logits[1] }),
          };
        }, encoder, objective);
      };
      const second = { cls_pt: { early_layers: 1, head_layers: 1 } };
      const patches = (logits: number[]) => logits.slice(11);

      it("gives the original's logits and losses in both branches", async () => {
        const got = await run(second, masked, masked);
        const main = patches(got.logits), branch = patches(got.cls_pt_logits);
        assertClose(main.slice(0, 4), [0.4565687521, -0.6806072423, 0.5157135131, -0.1961884941], tolerance, "first logits");
        close(sum(main), 17.4482583818, "sum", 10);
        close(sumAbs(main), 74.8434923332, "sum of magnitudes", 10);
        close(sum(branch), 15.1877957835, "second branch, sum", 10);
        close(sumAbs(branch), 74.7496772575, "second branch, sum of magnitudes", 10);
        close(got.main_loss[0], 2.3817884694, "loss");
        close(got.cls_pt_loss[0], 2.3982653982, "loss of the second branch");
        close(got.loss[0], 2.3817884694 + 2.3982653982, "both");
        const right = masked.filter((i) => { const row = main.slice(11 * i, 11 * i + 11); return row.indexOf(Math.max(...row)) === (7 * i + 3) % 11; });
        assertClose(got.accuracy, [right.length / 6], 1e-7, "accuracy");
      });

      it("INV-M3 gives the original's logits without a mask, and the same with an empty one", async () => {
        const [bare, empty] = [await run(second, undefined, masked), await run(second, [], masked)];
        close(sum(patches(bare.logits)), 6.1865110664, "sum", 10);
        assert.deepEqual(empty, bare);
      });

      it("has the original's 13,331 parameters, and nothing of the second branch without it", async () => {
        const encoder = (options = {}) => build(beit, { image: 32, patch: 8, width: 16, layers: 2, heads: 2, ...options }).parameters();
        assert.equal(countOf(encoder(second)) + countOf(build(mimCodes, { width: 16, codes: 11, states: "vision" }).parameters()), 13_331);
        assert.deepEqual(Object.keys(encoder()), Object.keys(encoder(second)).filter((name) => !name.includes("cls_pt")));
        const { logits } = await run({}, masked, masked);
        close(sum(patches(logits)), 17.4482583818, "sum", 10);
      });

      it("gives the same with one table per block when all are the shared one, and more parameters", async () => {
        const options = { image: 32, patch: 8, width: 16, layers: 2, heads: 2 };
        const encode = (o: Record<string, unknown>) => {
          const encoder = build(beit, { ...options, ...o });
          fillParameters(encoder, dtype, { nameOf: (name) => name.replace(/^vision\.(blocks\.\d\.attn\.)?/, (_, block) => (block ? "rel_pos_bias." : "")).replace(/^rel_pos_bias\.(?!relative)/, "") });
          return compute(() => encoder.forward({ pixels: input("image", [1, 3, 32, 32], dtype) }, context()), encoder);
        };
        const shared = await encode({}), own = await encode({ rel_pos_bias: "per_layer" }), none = await encode({ rel_pos_bias: "none" });
        assert.deepEqual(own, shared);
        assert.notDeepEqual(none, shared);
        const size = (o = {}) => countOf(build(beit, { ...options, ...o }).parameters());
        assert.deepEqual([size({ rel_pos_bias: "per_layer" }) - size(), size() - size({ rel_pos_bias: "none" })], [52 * 2, 52 * 2]);
      });
    });

    describe("G-CLIP: 32 x 32, patch 8, width 16, 2 layers, 2 heads, 6 targets", () => {
      const shape = { image: 32, patch: 8, width: 16, layers: 2, heads: 2, targets: 6 };

      it("gives the original's pooled image and projected patch features from 10,080 parameters", async () => {
        const tower = visionTower(shape);
        assert.equal(countOf(tower.parameters()), 10_080);
        materialise(tower.parameters(), { seed: 0, prefix: "", dtype, load: (name, p) => fillWeight(name, p.shape) });
        const { tokens } = await compute(() => ({ tokens: tower.forward(input("image", [1, 3, 32, 32], dtype)) }));
        release(tower.parameters());
        close(sum(tokens.slice(0, 6)), -0.1722141937, "pooled");
        close(sumAbs(tokens.slice(0, 6)), 2.0404425309, "magnitudes of pooled");
        close(sum(tokens.slice(6)), 5.0313838866, "sum", 10);
        close(sumAbs(tokens.slice(6)), 34.7052915029, "sum of magnitudes", 10);
      });

      for (const [plugin, prefix] of [[stubClip, "teacher."], [clip, "teacher.visual."]] as const) {
        it(`${plugin.id} gives them as targets`, async () => {
          const teacher = build(plugin, { ...shape, pixels: "none" });
          fillParameters(teacher, dtype, { nameOf: without(prefix) });
          const { targets } = await compute(() => teacher.forward({ pixels: input("image", [1, 3, 32, 32], dtype) }, context()), teacher);
          close(sum(targets), 5.0313838866, "sum", 10);
          close(sumAbs(targets), 34.7052915029, "sum of magnitudes", 10);
        });
      }
    });

    describe("G-VQKD: 32 x 32, patch 8, width 16, 2 layers, 2 heads, decoder of 1, 7 codes of 4, 6 targets", () => {
      const options = { image: 32, patch: 8, width: 16, layers: 2, heads: 2, codes: 7, dim: 4, pixels: "none" };
      const rows = unitRows("quantize.embedding.weight", 7, 4);
      const expected = [4, 1, 1, 4, 2, 2, 3, 2, 1, 3, 2, 1, 1, 1, 0, 4];
      const tokenizerOf = (o: Record<string, unknown>) => {
        const tokenizer = build(vqKd, { ...options, ...o });
        fillParameters(tokenizer, dtype, { nameOf: without("tokenizer."), given: { "tokenizer.quantize.embedding.weight": rows } });
        return tokenizer;
      };

      it("frozen: gives the original's codes, and the codebook's rows for them", async () => {
        const tokenizer = tokenizerOf({});
        const { codes, z_q } = await compute(() => tokenizer.forward({ pixels: input("image", [1, 3, 32, 32], dtype) }, context()), tokenizer);
        assert.deepEqual(codes, expected);
        assertClose(z_q, expected.flatMap((code) => rows.slice(code * 4, code * 4 + 4)), dtype === "f32" ? 1e-7 : 0, "z_q");
      });

      it("training: gives the original's reconstruction and both losses, from 14,314 trainable parameters", async () => {
        const tokenizer = tokenizerOf({ train: true, decoder_layers: 1, targets: 6 });
        const teacher = build(clip, { image: 32, patch: 8, width: 16, layers: 2, heads: 2, targets: 6, pixels: "none" });
        fillParameters(teacher, dtype, { nameOf: without("teacher.visual.") });
        assert.equal(countOf(tokenizer.parameters()), 14_314);
        const objective = build(vqKdLoss, { patches: 16, dim: 4, targets: 6, codes: 7 });
        const got = await compute(() => {
          const pixels = input("image", [1, 3, 32, 32], dtype);
          const outputs = tokenizer.forward({ pixels }, context());
          return { ...outputs, ...objective.forward({ ...outputs, ...teacher.forward({ pixels }, context()) }, context({ counts: { pages: 1 } })) };
        }, tokenizer, teacher);
        assert.deepEqual(got.codes, expected);
        close(sum(got.rec), 4.1837514569, "rec", 10);
        close(sumAbs(got.rec), 13.3304591723, "magnitudes of rec", 10);
        close(got.quant_loss[0], 0.217320982, "quant loss");
        close(got.rec_loss[0], 0.9445640447, "rec loss");
        close(got.loss[0], 0.217320982 + 0.9445640447, "loss");
        assertClose(got.codes_used, [5 / 7], 1e-7, "codes used");
      });
    });

    it("G-VQ: codes, loss, gradient, and the codebook and usage after the step", async () => {
      const rows = unitRows("codebook", 6, 4);
      const embedding = new nn.Parameter([6, 4], { kind: "zeros" }, { trainable: false });
      const quantiser = codebook({ codes: 6, dim: 4, decay: 0.99, kmeansRounds: 10, restartDeadAfter: 0 }, embedding);
      materialise(quantiser.parameters(), { seed: 0, prefix: "", dtype, load: (name) => (name === "embedding.weight" ? rows : undefined) });
      const channelsLast = (x: Tensor) => permute(x, [0, 2, 3, 1]);
      const scope = new Scope("G-VQ");
      try {
        const sums: Record<string, Tensor> = {};
        const { raw, codes, nearest, loss, gradient } = scope.enter(() => {
          const raw = input("z", [1, 4, 2, 4], dtype), tape = new Tape();
          tape.watch(raw);
          const { loss, total, ...found } = tape.record(() => {
            const quantised = quantiser.quantise(channelsLast(raw), context({ training: true, addUp: (name, tensor) => { sums[name] = tensor; } }));
            const loss = squaredError(quantised.z, quantised.nearest, { weight: 1 / 32 });
            return { ...quantised, loss, total: add(loss, sumOf(mul(quantised.straightThrough, channelsLast(input("gz", [1, 4, 2, 4], dtype))))) };
          });
          return { raw, ...found, loss, gradient: tape.backward([[total, fromArray([1], [1], dtype)]]).get(raw)! };
        });
        const read = async (x: Tensor) => Array.from(await x.read() as Float64Array);
        assert.deepEqual(await read(codes), [5, 3, 2, 0, 3, 2, 0, 0]);
        close((await read(loss))[0], 0.1535684389, "loss");
        close(sum(await read(nearest)), 1.2781339918, "z_q", 10);
        close(sumAbs(await read(nearest)), 13.9483159784, "magnitudes of z_q", 10);
        close(sum(await read(gradient)), 4.2310589571, "gradient", 10);
        close(sumAbs(await read(gradient)), 11.7414734501, "magnitudes of the gradient", 10);
        assertClose(await read(embedding.value), rows, dtype === "f32" ? 1e-7 : 0, "the codebook before the step"); // CB-1
        scope.enter(() => quantiser.afterStep(sums));
        const after = await read(embedding.value);
        close(sum(after), -2.625063755, "codebook", 10);
        close(sumAbs(after), 10.5541766307, "magnitudes of the codebook", 10);
        close(after[0], 0.1395192948, "its first number");
        assertClose(await read(quantiser.parameters()["cluster_size"].value), [0.03, 0, 0.02, 0.02, 0, 0.01], tolerance, "usage");
        // INV-V1: unit rows; what nobody used stays; the length of a vector does not matter.
        for (let k = 0; k < 6; k++) close(Math.hypot(...after.slice(4 * k, 4 * k + 4)), 1, `length of code ${k}`);
        for (const unused of [1, 4]) assertClose(after.slice(4 * unused, 4 * unused + 4), rows.slice(4 * unused, 4 * unused + 4), 1e-7, `unused code ${unused}`);
        const again = scope.enter(() => [1e-3, 1, 1e3].map((factor) => quantiser.quantise(channelsLast(scale(raw, factor)), context()).codes));
        for (const scaled of again) assert.deepEqual(await read(scaled), await read(again[1]));
      } finally {
        scope.close();
        release(quantiser.parameters());
      }
    });

    it("INV-V2 the squared difference of unit vectors is 2 (1 - cos)", async () => {
      const { squares, cosines } = await compute(() => {
        const [a, b] = ["a", "b"].map((name) => l2Normalize(input(name, [5, 7], dtype)));
        return { squares: squaredError(a, b), cosines: add(fromArray([2 * 5], [1], dtype), scale(sumOf(mul(a, b)), -2)) };
      });
      close(squares[0], cosines[0], "2 (1 - cos), summed");
    });
  });
}

/** The filled matrix with rows of unit length. */
function unitRows(name: string, rows: number, cols: number): number[] {
  const values = fill(name, [rows, cols]);
  return Array.from({ length: rows }, (_, r) => values.slice(r * cols, (r + 1) * cols)).flatMap((row) => [...row].map((x) => x / Math.hypot(...row)));
}

/** The stages that teach the page to be seen: a vocabulary (VQ-KD), masked pre-training over it, a teacher of one's own. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkRecipe, openCheckpoint, trainStep, type RunResult } from "../../../runtime/index.ts";
import { loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { miniRecipe, miniRuns, registry } from "./mini-run.ts";

describe("the vision stages", function () {
  this.timeout(120_000);
  const { run, remove } = miniRuns();
  after(remove);
  const stored = (result: RunResult, name: string): number[] => {
    const reader = openCheckpoint(result.checkpoint!);
    try {
      return Array.from(reader.parameter(name)!);
    } finally {
      reader.close();
    }
  };
  const codebookName = "tokenizer.quantize.embedding.weight";

  it("VQ-KD learns: the loss falls, codes are in use, and the codebook is in the checkpoint with rows of unit length", async () => {
    const { steps, result } = await run("mini-vq-kd", "train.steps=8");
    assert.ok(steps[7].losses.likeness < 0.9 * steps[0].losses.likeness, `losses ${steps.map(({ losses }) => losses.likeness)}`);
    for (const { losses } of steps) {
      assert.ok(Math.abs(losses["likeness.rec_loss"] + losses["likeness.quant_loss"] - losses.likeness) < 1e-5);
      assert.ok(losses["likeness.codes_used"] >= 1 / 64 && losses["likeness.codes_used"] <= 1, `${losses["likeness.codes_used"]} of the codes in use`);
    }
    const rows = stored(result, codebookName), usage = stored(result, "tokenizer.quantize.cluster_size");
    for (let k = 0; k < 64; k++) assert.ok(Math.abs(Math.hypot(...rows.slice(16 * k, 16 * k + 16)) - 1) < 1e-6);
    // 256 patches per step: usage after n steps is 256 (1 - 0.99^n).
    assert.ok(Math.abs(usage.reduce((a, b) => a + b, 0) - 256 * (1 - 0.99 ** 8)) < 1e-3);
  });

  it("stopped after two steps and resumed, VQ-KD ends with the same bits", async () => {
    const whole = await run("mini-vq-kd", "train.checkpoint.every=2");
    const resumed = await run({ name: "mini-vq-kd", resume: join(whole.result.checkpoint!, "../step-2") });
    assert.deepEqual(resumed.steps.map(({ loss }) => loss), whole.steps.slice(2).map(({ loss }) => loss));
    assert.deepEqual(stored(resumed.result, codebookName), stored(whole.result, codebookName));
  });

  it("compiled, VQ-KD gives the same bits: its start runs once, what moves the codebook leaves the recording as sums", async () => {
    const oneShape = ["train.steps=8", "components.pages.options.max_text=8"];
    const plain = await run("mini-vq-kd", ...oneShape, "train.compile=off"), compiled = await run("mini-vq-kd", ...oneShape);
    assert.deepEqual(compiled.steps.map(({ loss }) => loss), plain.steps.map(({ loss }) => loss));
    assert.deepEqual(stored(compiled.result, codebookName), stored(plain.result, codebookName));
    const { replayed, refused } = compiled.result.stats["in-process"].compiled!;
    assert.deepEqual(refused, []);
    assert.ok(replayed > 0, "of batches of one shape and count, the later ones are replayed");
  });

  it("a step of VQ-KD cut into 1, 2 or 4 microbatches moves codebook and losses alike", async () => {
    const checked = await checkRecipe(miniRecipe("mini-vq-kd", "components.words.options.kmeans_rounds=0"), registry);
    const stepped = async (microbatches: number) => {
      const model = await loadStageModel(checked, { seed: 3, precision: "f32" });
      try {
        const batch = await model.loader!.batch({ step: 0, seed: 3, batch: 4, microbatches });
        const result = await trainStep({ graph: model.graph, parameters: model.parameters, optimizer: model.optimizer, batch, learningRate: 1e-3, clip: 1, seed: 3, precision: "f32" });
        return { rows: Array.from(await model.parameters[codebookName].value.read() as Float32Array), ...result };
      } finally {
        await model.close();
      }
    };
    const whole = await stepped(1);
    for (const microbatches of [2, 4]) {
      const cut = await stepped(microbatches);
      cut.rows.forEach((x, i) => assert.ok(Math.abs(x - whole.rows[i]) < 1e-6, `codebook element ${i}: ${x} in ${microbatches} microbatches, ${whole.rows[i]} in one`));
      assert.ok(Math.abs(cut.loss - whole.loss) < 1e-5);
    }
  });

  it("VQ-KD and contrastive losses refuse more than one microbatch, saying why", async () => {
    for (const name of ["mini-vq-kd", "mini-clip"]) {
      await assert.rejects(checkRecipe(miniRecipe(name, "train.microbatches=2"), registry), { code: "ERR_RECIPE", message: /microbatches: 1/ });
    }
  });

  it("masked pre-training starts from the vocabulary that VQ-KD saved, and both branches learn", async () => {
    const { result } = await run("mini-vq-kd");
    const from = `train.from=${result.checkpoint!}`;
    const { steps, result: mim } = await run("mini-mim", "train.steps=6", from);
    assert.deepEqual(stored(mim, codebookName), stored(result, codebookName), "the vocabulary is frozen");
    assert.deepEqual(stored(mim, "tokenizer.encoder.cls_token"), stored(result, "tokenizer.encoder.cls_token"));
    const branches = steps.map(({ losses }) => [losses["mim.main_loss"], losses["mim.cls_pt_loss"]]);
    for (const branch of [0, 1]) {
      assert.ok(Math.abs(branches[0][branch] - Math.log(64)) < 0.5, `a head that knows nothing costs about ln 64, branch ${branch} costs ${branches[0][branch]}`);
      assert.ok(branches[5][branch] < branches[0][branch], `branch ${branch}: ${branches.map((pair) => pair[branch])}`);
    }
    for (const { losses } of steps) {
      assert.ok(Math.abs(losses["mim.main_loss"] + losses["mim.cls_pt_loss"] - losses.mim) < 1e-5);
      assert.ok(losses["mim.accuracy"] >= 0 && losses["mim.accuracy"] <= 1);
    }
    const names = openCheckpoint(mim.checkpoint!);
    assert.ok(names.manifest.tensors.some(({ name }) => name === "vision.lm_head.weight") && names.manifest.tensors.some(({ name }) => name === "vision.cls_pt_layers.0.norm1.weight"));
    names.close();
  });

  it("a small CLIP learns pages against their text, then teaches", async () => {
    const { steps, result } = await run("mini-clip");
    assert.ok(Math.abs(steps[0].loss - Math.log(8)) < 1.5, `telling 8 pages apart by chance costs ln 8, it costs ${steps[0].loss}`);
    assert.ok(steps.at(-1)!.loss < steps[0].loss, `losses ${steps.map(({ loss }) => loss)}`);
    const { result: taught } = await run("mini-vq-kd", `train.from=${result.checkpoint!}`, "components.teacher={use: teacher/mini-clip, options: {layers: 1, train: false}, in: {pixels: pages.pixels}}");
    assert.deepEqual(stored(taught, "teacher.visual.proj"), stored(result, "teacher.visual.proj"), "the teacher is what was learned, and frozen");
  });
});

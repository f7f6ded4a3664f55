import assert from "node:assert/strict";
import { closeSync, copyFileSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import {
  type RunResult, RecipeError, bytesOf, checkRecipe, createRegistry, createRunFolder, evaluate, findCheckpoint, loadRecipe, openCheckpoint, openCheckpointTensors, planExport, planImport, readManifest, train, writeImported,
} from "../../../runtime/index.ts";
import { loadStageModel } from "../../../runtime/pipeline/run/model.ts";
import { openTrained } from "../../../runtime/trainer/trained-model.ts";
import { miniRecipe, root, temporaryFolder } from "../../process/octavo.ts";
import { memorySource, written } from "../checkpoint/memory-source.ts";

/** Everything this process has read so far, as the kernel counts it. */
const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))![1]);

describe("a checkpoint carries what its model needs", function () {
  this.timeout(120_000);
  const folder = temporaryFolder(), registry = createRegistry(builtins);
  after(() => folder.remove());
  const tokenizer = join(folder.path, "words.json");
  const run = (overrides: readonly string[]): Promise<RunResult> => train(loadRecipe(miniRecipe, [`components.pages.options.tokenizer=${tokenizer}`, ...overrides]), {
    runFolder: createRunFolder(folder.path, "run", new Date()).path, registry, inProcess: true, threads: 2,
  });
  let trained: string;
  before(async () => {
    copyFileSync(join(root, "examples/data/tokenizer.json"), tokenizer);
    trained = (await run(["train.steps=1"])).checkpoint!;
  });

  it("the tokenizer, read instead of the file it came from: that one may change or go", async () => {
    assert.deepEqual(readManifest(trained).files, { [tokenizer]: "words.json" });
    assert.deepEqual(readFileSync(join(trained, "words.json")), readFileSync(tokenizer));
    const losses = async (checkpoint: string) => (await evaluate(checkpoint, { registry, limit: 2 })).losses;
    const before = await losses(trained);
    writeFileSync(tokenizer, "{}");
    assert.deepEqual(await losses(trained), before);
    rmSync(tokenizer);
    const moved = join(folder.path, "moved");
    renameSync(findCheckpoint(trained), moved);
    assert.deepEqual(await losses(moved), before);
    renameSync(moved, trained);
    copyFileSync(join(root, "examples/data/tokenizer.json"), tokenizer);
  });

  it("under a name of its own where the checkpoint has such a file already", async () => {
    const named = join(folder.path, "recipe.yaml");
    copyFileSync(tokenizer, named);
    const { checkpoint } = await run(["train.steps=0", `components.pages.options.tokenizer=${named}`]);
    assert.deepEqual(readManifest(checkpoint!).files, { [named]: "recipe-2.yaml" });
    assert.deepEqual(readFileSync(join(checkpoint!, "recipe-2.yaml")), readFileSync(tokenizer));
    assert.equal(loadRecipe(join(checkpoint!, "recipe.yaml")).name, "mini");
  });

  it("a tokenizer with more words than the table has rows is refused, with both numbers", async () => {
    const few = (error: unknown) => error instanceof RecipeError && /components\.text\.options\.vocabulary: expected at least 2048, the words of pages's tokenizer .*words\.json, found 1000\. Set vocabulary to 2048/.test(error.message);
    await assert.rejects(run(["components.text.options.vocabulary=1000"]), few);
    await assert.rejects(openTrained(trained, { registry, set: ["components.text.options.vocabulary=1000"] }), few);
  });

  it("weights that were imported are where a run starts from, by name", async () => {
    const source = openCheckpointTensors(trained), text = registry.resolve("text-encoder/llama");
    const options = text.options.parse({ layers: 1 }) as Record<string, unknown>;
    const released = planExport({ source, use: "text-encoder/llama", options });
    const plan = planImport({ source: memorySource(written(released.tensors)), plugin: text, config: released.config });
    const checkpoint = join(folder.path, "imported");
    await writeImported(checkpoint, { tensors: plan.tensors, recipe: "components: {}", imported: { from: "x", family: plan.family, dialect: plan.dialect } });
    const started = await run(["train.steps=0", "seed=99", `train.from=${checkpoint}`]);
    const [first, second] = [openCheckpoint(trained), openCheckpoint(started.checkpoint!)];
    for (const name of plan.tensors.keys()) assert.deepEqual(second.parameter(name), first.parameter(name), name);
    assert.notDeepEqual(second.parameter("vision.cls_token"), first.parameter("vision.cls_token"), "what was not imported starts by the new seed");
    first.close(), second.close(), source.close();
  });

  it("a stage loads its own tensors out of a 12 GB checkpoint without touching the rest", async () => {
    const small = openCheckpointTensors(trained), names = small.names.filter((name) => name.startsWith("text.")), checkpoint = join(folder.path, "large");
    const huge = { name: "vision.huge", dtype: "F32", shape: [3_000_000_000] }, hole = 12_000_000_000; // a hole: no block of the disk is taken
    const stored = names.map((name) => ({ name, ...small.entry(name)!, data: small.bytes(name, 0, bytesOf(small.entry(name)!)) }));
    const header: Record<string, unknown> = { [huge.name]: { dtype: huge.dtype, shape: huge.shape, data_offsets: [0, hole] } };
    let end = hole;
    for (const { name, dtype, shape, data } of stored) header[name] = { dtype, shape, data_offsets: [end, (end += data.byteLength)] };
    const text = Buffer.from(JSON.stringify(header)), length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    mkdirSync(checkpoint);
    const file = openSync(join(checkpoint, "model.safetensors"), "w");
    writeSync(file, Buffer.concat([length, text]));
    writeSync(file, Buffer.concat(stored.map(({ data }) => data)), 0, undefined, 8 + text.length + hole);
    closeSync(file);
    const tensors = [huge, ...stored].map(({ name, dtype, shape }) => ({ name, dtype, shape, file: "model.safetensors", role: "parameter" as const }));
    writeFileSync(join(checkpoint, "manifest.json"), JSON.stringify({ ...readManifest(trained), tensors }));

    const checked = await checkRecipe(loadRecipe(miniRecipe), registry), before = process.memoryUsage.rss(), read = bytesRead();
    const model = await loadStageModel(checked, { stages: ["text"], seed: 99, threads: 2, precision: "f32", openData: false, load: { checkpoint, optimizer: true } });
    const grown = process.memoryUsage.rss() - before, taken = bytesRead() - read;
    const wanted = stored.reduce((sum, { data }) => sum + data.byteLength, 0);
    for (const { name, data } of stored) assert.deepEqual(new Uint8Array((await model.parameters[name].value.read()).buffer), new Uint8Array(data), name);
    assert.ok(taken >= wanted && taken < 1.1 * wanted + 1e6, `${taken} bytes read for ${wanted} of the stage's tensors`);
    assert.ok(grown < 100e6, `resident memory grew by ${(grown / 1e6).toFixed(0)} MB`);
    await model.close();
    small.close();
  });
});

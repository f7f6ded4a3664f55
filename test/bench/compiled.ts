/**
 * The compiled step against the eager one: wall clock, and what JavaScript costs; the numbers must be the same.
 * `npm run bench -- compiled [--json] [--write] [--preset=tiny|small] [--batch=4,16] [--steps=10] [--repetitions=5]`
 *
 * The decode step is one token of the tiny decoder for one page, its logits read as generation does.
 * JavaScript's share is the time the main thread computes within a step: CPU time of that thread, read from /proc, for the event loop
 * runs nothing else. Eager and compiled repetitions alternate.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { llamaDecoder } from "../../plugins/decoder/llama.ts";
import { Compiled } from "../../runtime/autograd/index.ts";
import { materialise, release } from "../../runtime/nn/index.ts";
import { type GenerativeDecoder, type HostBatch, createHost, createRegistry } from "../../runtime/plugin/index.ts";
import { Scope, fence, fromArray, full } from "../../runtime/tensor/index.ts";
import { compiledStep } from "../../runtime/trainer/compiled-step.ts";
import { type StepInput, type StepResult, trainStep } from "../../runtime/trainer/step.ts";
import { type JointStep, type Preset, openJointStep } from "./peers/joint-step.ts";
import { keep, median, report, reportFlags, rounded, say } from "./report.ts";

const { values: flags } = parseArgs({ options: {
  ...reportFlags, preset: { type: "string", default: "tiny" }, batch: { type: "string", default: "4,16" },
  steps: { type: "string", default: "10" }, repetitions: { type: "string", default: "5" },
} });
const [steps, repetitions] = [Number(flags.steps), Number(flags.repetitions)];

interface Measured { wallMs: number; mainMs: number; results: StepResult[] }

/** Milliseconds that the main thread has computed: schedstat counts nanoseconds on the CPU. */
const mainThreadMs = (): number => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;

async function measure(step: JointStep, one: HostBatch, take: (input: StepInput) => Promise<StepResult>): Promise<Measured> {
  const { graph, parameters, optimizer, seed } = step.model, results: StepResult[] = [], wall: number[] = [], main: number[] = [];
  for (let i = 0; i < steps; i++) {
    const begun = performance.now(), before = mainThreadMs();
    results.push(await take({ graph, parameters, optimizer, batch: { ...one, step: i }, learningRate: 1e-3, clip: step.clip, seed, precision: "f32" }));
    await fence();
    wall.push(performance.now() - begun);
    main.push(mainThreadMs() - before);
  }
  return { wallMs: median(wall), mainMs: median(main), results };
}

async function jointStep(batch: number): Promise<void> {
  const open = () => openJointStep(flags.preset as Preset, { batch, microbatches: Math.min(4, batch), batches: 1, filled: true });
  const [one, two] = [await open(), await open()], compiled = new Compiled("the step");
  const eager: Measured[] = [], replayed: Measured[] = [];
  const repeat = async () => {
    eager.push(await measure(one, one.batches[0], trainStep));
    replayed.push(await measure(two, two.batches[0], (input) => compiledStep(compiled, input)));
    assert.deepEqual(replayed.at(-1)!.results, eager.at(-1)!.results, "the compiled step gives other numbers");
  };
  for (let i = 0; i <= repetitions; i++) await repeat();
  const middle = (all: readonly Measured[], of: "wallMs" | "mainMs"): number => median(all.slice(1).map((each) => each[of])); // the first warms up
  const wall = middle(eager, "wallMs") / middle(replayed, "wallMs"), main = middle(eager, "mainMs") / middle(replayed, "mainMs");
  const { recorded, replayed: times, refused } = compiled.statistics;
  assert.deepEqual({ recorded, refused }, { recorded: 2, refused: [] });
  say(`${times} steps replayed to the numbers of as many eager ones`);
  report({ case: `compiled/${flags.preset}/batch ${batch}/wall`, value: middle(replayed, "wallMs"), unit: "ms", ratio: wall, bar: 1, ok: wall >= 1, eager: rounded(middle(eager, "wallMs")) });
  report({ case: `compiled/${flags.preset}/batch ${batch}/javascript`, value: middle(replayed, "mainMs"), unit: "ms", ratio: main, bar: 10, ok: main >= 10, eager: rounded(middle(eager, "mainMs")) });
  compiled.clear();
  await one.close();
  await two.close();
}

/** Milliseconds per token of the tiny decoder, one page, logits read after each token, and the logits. */
async function generate(decoder: GenerativeDecoder): Promise<{ ms: number; logits: number[][] }> {
  const scope = new Scope("page"), context = { training: false, step: 0, seed: 1, counts: {}, sampleIds: [0], precision: "f32" } as const;
  const state = scope.enter(() => decoder.begin({ memory: full([1, 80, 96], 0.1), memory_mask: fromArray(new Uint8Array(80).fill(1), [1, 80]) }, context));
  const logits: number[][] = [], times: number[] = [];
  for (let token = 0; token < 48; token++) {
    const begun = performance.now(), next = decoder.next(state, token === 0 ? Int32Array.of(1, 8, 9, 6) : Int32Array.of(20 + token));
    logits.push([...(await next.read())].map(Number));
    times.push(performance.now() - begun);
    next.dispose();
  }
  decoder.end(state);
  scope.close();
  return { ms: median(times), logits };
}

async function decodeStep(): Promise<void> {
  const [compiled, eager] = [true, false].map((compile) => {
    const decoder = llamaDecoder.create(llamaDecoder.options.parse({ compile }), createHost(createRegistry([]), { folder: ".", seed: 1, runFolder: "." })) as GenerativeDecoder;
    materialise(decoder.parameters(), { seed: 1, prefix: "" });
    return decoder;
  });
  const times: { compiled: number[]; eager: number[] } = { compiled: [], eager: [] };
  for (let i = 0; i <= 3 * repetitions; i++) {
    const one = await generate(compiled), two = await generate(eager);
    assert.deepEqual(one.logits, two.logits, "compiled generation gives other numbers");
    if (i > 0) times.compiled.push(one.ms), times.eager.push(two.ms);
  }
  const [ms, eagerMs] = [median(times.compiled), median(times.eager)];
  report({ case: "compiled/decode/batch 1", value: ms, unit: "ms", ratio: eagerMs / ms, bar: 1.2, ok: eagerMs / ms >= 1.2, eager: rounded(eagerMs) });
  for (const decoder of [compiled, eager]) release(decoder.parameters());
}

await decodeStep();
for (const batch of flags.batch.split(",")) await jointStep(Number(batch));
keep("compiled", "The compiled step against the eager one");

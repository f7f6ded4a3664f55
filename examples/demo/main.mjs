// The demo: trains the tiny document model on the committed pages as four processes, first joint pre-training, then prompt
// fine-tuning; scores it on receipts it never saw; asks one question about one of them. Everything it calls is the public API.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { ask, evaluate, train } from "octavo/cluster";

const here = dirname(fileURLToPath(import.meta.url));
const examples = dirname(here);
const runs = join(process.cwd(), "runs");
const page = join(examples, "data/pages/X00016469623.jpg");
const prompt = "what is the total?";
const started = performance.now();

const preTraining = await phase("joint pre-training (MLM + MIM + WPA)", join(examples, "tiny.yaml"),
  ["name=pre-train", "train.steps=100", "train.batch=8", "train.checkpoint.every=50"]);
const fineTuning = await phase("prompt fine-tuning (questions about receipts)", join(here, "fine-tune.yaml"),
  [`train.from=${preTraining.checkpoint}`]);

say("\n== scoring on receipts the model never saw");
const untrained = await evaluate(fineTuning.checkpoint, { untrained: true, maxTokens: 48 });
const trained = await evaluate(fineTuning.checkpoint, { maxTokens: 48 });
for (const { prompt: asked, expected, got } of trained.samples.slice(0, 8)) say(`  ${asked.padEnd(34)} expected "${expected}", got "${got}"`);

say(`\n== asking: ${prompt}`);
const out = join(fineTuning.runFolder, "answer.png");
const answer = await ask(fineTuning.checkpoint, page, prompt, { out });
if (!existsSync(out)) throw new Error(`${out} was not written`);
say(`  ${relative(process.cwd(), page)}: "${answer.text}" (${answer.boxes.length} box${answer.boxes.length === 1 ? "" : "es"})`);

const summary = {
  seconds: (performance.now() - started) / 1000,
  preTraining: { steps: preTraining.step, first: preTraining.first.losses, last: preTraining.last.losses },
  fineTuning: { steps: fineTuning.step, first: fineTuning.first.losses, last: fineTuning.last.losses },
  heldOut: { questions: trained.examples, losses: { untrained: untrained.losses, trained: trained.losses }, scores: { untrained: untrained.scores, trained: trained.scores }, cutShort: trained.cutShort },
  answer: { page: relative(process.cwd(), page), prompt, text: answer.text, boxes: answer.boxes },
  files: { checkpoint: fineTuning.checkpoint, picture: out, runs: [preTraining.runFolder, fineTuning.runFolder] },
};
mkdirSync(fineTuning.runFolder, { recursive: true });
writeFileSync(join(fineTuning.runFolder, "summary.json"), JSON.stringify(summary, undefined, 1));

say("\n== what was learned");
losses("pre-training, train pages", preTraining.first.losses, preTraining.last.losses, "first step", "last step");
losses("fine-tuning, train pages", fineTuning.first.losses, fineTuning.last.losses, "first step", "last step");
losses(`${trained.examples} questions about held-out receipts`, untrained.losses, trained.losses, "untrained", "trained");
say(`  scores on the same questions${" ".repeat(14)}untrained    trained     margin`);
for (const [name, score] of Object.entries(trained.scores)) {
  if (name.endsWith("examples")) continue;
  const before = untrained.scores[name];
  say(`    ${name.padEnd(34)}${before.toFixed(4).padStart(13)}${score.toFixed(4).padStart(11)}${signed(score - before).padStart(11)}`);
}
say(`  answers cut short: ${trained.cutShort} of ${trained.examples}`);
say("\n== files");
for (const [name, path] of [["checkpoint", fineTuning.checkpoint], ["page with the answer", out], ["summary", join(fineTuning.runFolder, "summary.json")]]) {
  say(`  ${name.padEnd(22)}${relative(process.cwd(), path)}`);
}
say(`  ask on: npx octavo ask ${relative(process.cwd(), fineTuning.runFolder)} ${relative(process.cwd(), page)} "what is the date?" --out date.png`);
say(`\n${summary.seconds.toFixed(0)} s in all.`);

if (!(trained.losses.answer < untrained.losses.answer) || !(fineTuning.last.loss < fineTuning.first.loss) || !(preTraining.last.loss < preTraining.first.loss)) {
  console.error("The model learned nothing: a loss did not fall.");
  process.exitCode = 1;
}

async function phase(name, recipe, set) {
  say(`\n== ${name}`);
  let steps = 0, shown = -Infinity;
  return train(recipe, {
    set, runs,
    onEvent(event) {
      if (event.event === "start") {
        steps = event.steps;
        for (const { stage, components, pid } of event.processes) say(`  process ${pid}  ${stage}: ${components.join(", ")}`);
      }
      if (event.event === "links") for (const { from, to, lane } of event.links) say(`  link ${from} -> ${to}: ${lane}`);
      if (event.event === "checkpoint") say(`  checkpoint after step ${event.step}: ${relative(process.cwd(), event.path)}`);
      if (event.event !== "step") return;
      if (performance.now() - shown < 5000 && event.step + 1 < steps) return;
      shown = performance.now();
      say(`  step ${String(event.step + 1).padStart(3)}/${steps}  loss ${event.loss.toFixed(4)}  ${event.pagesPerSecond.toFixed(1)} pages/s  ETA ${Math.round(event.etaSeconds)} s`);
    },
  });
}

function losses(title, before, after, first, last) {
  say(`  ${title.padEnd(38)}${first.padStart(13)}${last.padStart(11)}`);
  for (const name of Object.keys(after)) say(`    ${name.padEnd(36)}${before[name].toFixed(4).padStart(13)}${after[name].toFixed(4).padStart(11)}`);
}

function signed(value) {
  return `${value >= 0 ? "+" : ""}${value.toFixed(4)}`;
}

function say(text) {
  console.log(text);
}

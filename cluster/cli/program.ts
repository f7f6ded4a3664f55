/** The commands and their options; what they do is in verbs.ts and, per command, in the files beside this one. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { checkToJson, formatCheck, formatExplanation, formatModel, heldOut, presetNames } from "../../runtime/index.ts";
import { packageRoot } from "../launcher/entries.ts";
import { formatSequence } from "../sequence/check-sequence.ts";
import { isSequence } from "../sequence/sequence-file.ts";
import { formatSummary } from "../sequence/summary.ts";
import { formatReport } from "../study/report.ts";
import {
  ablate, check, checkStages, describeModel, evaluate, explain, listPlugins, readRecipe, train, trainStages, type AblateChoice, type ModelChoice, type TrainChoice, type TrainStagesChoice,
} from "../verbs.ts";
import { askCommand } from "./ask.ts";
import { doctor, formatFindings } from "./doctor.ts";
import { fabricPort, listenFabric, showFabric } from "./fabric.ts";
import type { Output, Streams } from "./output.ts";
import { planCommand } from "./plan.ts";
import { formatPlugins, pluginEvents } from "./plugins.ts";
import { runProgress, scoreLines } from "./progress.ts";
import { serveAgent, serveCoordinator } from "./serve.ts";
import { stopOnSignals } from "./stop.ts";
import { weightCommands } from "./weights.ts";

export function buildProgram(output: Output, streams: Streams, exit: (code: number) => void): Command {
  const program = new Command("octavo");
  program.exitOverride().configureOutput({ writeOut: streams.out, writeErr: () => {} }); // errors are thrown, and said once by main
  const version = (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;
  program.description("Compose, train, ablate and ask multimodal document models.").version(version).showSuggestionAfterError();
  const command = (usage: string, description: string): Command => program.command(usage).description(description).option("--json", "one JSON object per line");

  command("check <recipe>", "find every mistake in a recipe and show its components, stages and edges, without running it; or of a sequence of recipes")
    .addOption(setOption()).addOption(seedOption())
    .action(async (recipe: string, o: { set: string[]; seed?: number }) => {
      if (isSequence(recipe)) {
        const sequence = await checkStages(recipe, o);
        for (const { name, checked, sources, warnings } of sequence.stages) output.event({ event: "check", stage: name, from: sources, ...checkToJson({ ...checked, warnings }) } as { event: string });
        return output.say(formatSequence(sequence));
      }
      const result = await check(recipe, o);
      output.event({ event: "check", ...checkToJson(result) } as { event: string });
      output.say(formatCheck(result));
    });

  planCommand(command, output, positive, [setOption()]);

  command("model [recipe]", "what a model costs: parameters, operations per page and memory per rank, without allocating a weight")
    .addOption(new Option("--preset <name>", "a preset instead of a recipe").choices(presetNames))
    .option("--pages <n>", "of a preset: pages between forward and backward at once (default: 1)", positive)
    .addOption(setOption()).addOption(seedOption())
    .action(async (recipe: string | undefined, o: ModelChoice) => {
      const report = await describeModel(recipe, o);
      output.event({ event: "model", ...report } as { event: string });
      output.say(formatModel(report));
    });

  place(command("train <recipe>", "train a recipe in a run folder of its own; or the recipes of a sequence one after another"))
    .addOption(setOption()).addOption(seedOption())
    .option("--resume <path>", "continue from a checkpoint, or from the latest of a run folder; of a sequence: in its folder")
    .option("--runs <folder>", "where run folders are made", "runs")
    .option("--trace [steps]", "trace some steps: when every rank did what and what it waited for (default: 5)", positive)
    .action(async (recipe: string, { trace, ...rest }: Omit<TrainChoice, "trace"> & { trace?: number | true }) => {
      await runTrain(recipe, { ...rest, trace: trace === true ? tracedByDefault : trace }, output);
    });
  command("explain <run>", "where the time of a run's traced steps went, rank by rank and by cause")
    .action((path: string) => {
      const found = explain(path);
      output.event({ event: "explanation", ...found } as { event: string });
      output.say(formatExplanation(found));
    });

  place(command("ablate <study>", "run a study: a parent recipe, arms that change it, several seeds; the same command continues a stopped one"))
    .option("--folder <folder>", "the study's folder (default: runs/study-<name>)")
    .action(async (file: string, o: AblateChoice) => {
      const stop = stopOnSignals((message) => output.warn(message));
      try {
        await runAblate(file, { ...o, signal: stop.signal }, output);
      } finally {
        stop.dispose();
      }
    });

  askCommand(command, output, positive);

  command("evaluate <checkpoint>", "score a checkpoint on the pages its recipe holds out")
    .option("--limit <n>", "at most so many questions", positive)
    .option("--threads <n>", "threads", positive)
    .action(async (checkpoint: string, o: { limit?: number; threads?: number }) => {
      const stop = stopOnSignals((message) => output.warn(message), { after: "after the current batch" });
      const result = await evaluate(checkpoint, { ...o, signal: stop.signal }).finally(stop.dispose);
      output.event({ event: "evaluation", ...result } as { event: string });
      output.say(`${result.checkpoint}: step ${result.step}, ${result.examples} held-out examples${result.cutShort ? `, ${result.cutShort} answers cut short` : ""}`);
      for (const line of scoreLines({ ...heldOut(result.losses), ...result.scores })) output.say(`  ${line}`);
    });

  weightCommands(command, output, positive);

  command("doctor", "what this machine offers, what is missing and how to get it")
    .option("--fabric <host[:port]>", "which transports carry tensors between that machine and this one, and how fast")
    .option("--fabric-listen [port]", "let another machine ask this one", (text: string) => port(text))
    .action(async (o: { fabric?: string; fabricListen?: number | true }) => {
      if (o.fabricListen !== undefined) return listenFabric(o.fabricListen === true ? fabricPort : o.fabricListen, output, stopOnSignals(output.say, { after: "listening" }).signal);
      if (o.fabric !== undefined) return showFabric(o.fabric, output);
      const findings = await doctor();
      for (const finding of findings) output.event({ event: "finding", ...finding } as { event: string });
      output.say(formatFindings(findings));
      if (findings.some((finding) => finding.state === "missing")) exit(1);
    });

  command("plugins", "the plugins a recipe can use: kinds, names, versions, ports").action(async () => {
    const plugins = await listPlugins();
    for (const event of pluginEvents(plugins)) output.event(event);
    output.say(formatPlugins(plugins));
  });

  command("coordinator", "serve the control plane on this machine (train --on starts one itself)")
    .option("--port <n>", "0 lets the system choose", port, 0)
    .action((o: { port: number }) => serveCoordinator(o.port, output));
  command("agent", "run workers for a coordinator (train --on starts them itself)")
    .requiredOption("--coordinator <host:port>").requiredOption("--name <name>")
    .action((o: { coordinator: string; name: string }) => serveAgent(o, output));
  return program;
}

/** Where a run takes place; the same words for train and ablate. */
function place(command: Command): Command {
  return command
    .option("--in-process", "everything in this one process, the reference; stages are ignored")
    .option("--on <cluster.yaml>", "run the workers under the agents of a cluster")
    .addOption(new Option("--lane <lane>", "how tensors travel between processes").choices(["shared-memory", "ucx", "zeromq"]))
    .option("--threads <n>", "threads per process", positive);
}

async function runTrain(recipe: string, o: Omit<TrainChoice, "onEvent">, output: Output): Promise<void> {
  const stop = stopOnSignals((message) => output.warn(message));
  try {
    if (isSequence(recipe)) return await runStages(recipe, { ...o, signal: stop.signal }, output);
    const shown = readRecipe(recipe, o).trackers.some((tracker) => tracker.use === "tracker/console");
    await train(recipe, { ...o, signal: stop.signal, onEvent: runProgress(output, { shown }) });
  } finally {
    stop.dispose();
  }
}

async function runAblate(file: string, choice: AblateChoice, output: Output): Promise<void> {
  let progress = runProgress(output, { inStudy: true });
  const report = await ablate(file, {
    ...choice,
    onRunEvent: (event, run) => progress({ ...event, ...run }),
    onEvent(event) {
      output.event(event);
      if (event.event === "study") output.say(`study ${event.name} in ${event.folder}: ${event.runs} runs (${event.arms.join(", ")}; seeds ${event.seeds.join(", ")}), ${event.finished} finished before`);
      if (event.event !== "run") return;
      progress = runProgress(output, { inStudy: true });
      output.say(`run ${event.index}/${event.runs}: ${event.arm}, seed ${event.seed}: ${event.state}${event.metric === undefined ? "" : ` (${event.metric})`} ${event.runFolder}`);
    },
  });
  output.say(report ? `\n${formatReport(report)}` : "stopped; the same command continues");
}

async function runStages(file: string, choice: TrainStagesChoice, output: Output): Promise<void> {
  let progress = runProgress(output, { inStudy: true });
  let folder = "";
  const summary = await trainStages(file, {
    ...choice,
    onRunEvent: (event, stage) => progress({ ...event, ...{ stage } }),
    onEvent(event) {
      output.event(event);
      if (event.event === "sequence") folder = event.folder, output.say(`${event.name} in ${event.folder}: ${event.stages.join(", ")}; ${event.finished} finished before`);
      if (event.event !== "stage") return;
      progress = runProgress(output, { inStudy: true });
      const from = event.state === "started" ? Object.entries(event.from).map(([component, path]) => `\n  ${component} from ${path}`).join("") : "";
      output.say(`stage ${event.index}/${event.stages}: ${event.stage}: ${event.state} ${event.runFolder}${from}`);
    },
  });
  output.say(summary ? `\n${formatSummary(summary)}` : `stopped; octavo train ${file} --resume ${folder} continues`);
}

/** Steps of `--trace` without a number. */
const tracedByDefault = 5;

function setOption(): Option {
  return new Option("--set <path=value>", "override one value of the recipe; may be repeated").default([]).argParser((value: string, before: string[]) => [...before, value]);
}

function seedOption(): Option {
  return new Option("--seed <n>", "seed of weights and data order").argParser((text: string) => whole(text, 0));
}

const positive = (text: string): number => whole(text, 1);
const port = (text: string): number => whole(text, 0);

function whole(text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`);
  return value;
}

/** `octavo inspect|import|export`: options and what is said of the results. */
import { Option, type Command } from "commander";
import { exportWeights, importWeights, inspect, type ExportChoice, type ImportChoice, type ImportReport, type Inspection } from "../weights.ts";
import { number } from "./ask.ts";
import type { Output } from "./output.ts";
import { stopOnSignals } from "./stop.ts";

type Make = (usage: string, description: string) => Command;

export function weightCommands(command: Make, output: Output, positive: (text: string) => number): void {
  const repeated = (flags: string, text: string): Option => new Option(flags, text).default([]).argParser((value: string, before: string[]) => [...before, value]);

  command("inspect <path>", "names, shapes and dtypes of a file of weights, a released model's folder, an adapter or a checkpoint; no data is read")
    .action((path: string) => {
      const found = inspect(path);
      const { tensors, ...summary } = found;
      for (const tensor of tensors) output.event({ event: "tensor", ...tensor } as { event: string });
      output.event({ event: "inspection", ...summary, count: tensors.length } as { event: string });
      output.say(formatInspection(found));
    });

  command("import <path>", "make a checkpoint of released weights (.safetensors, .pth, .bin, or a folder with config.json), or of an adapter and its base (--onto)")
    .requiredOption("--as <kind/name>", "the component they are for: text-encoder/llama, decoder/llama, image-encoder/beit, prompt-encoder/bert ...")
    .requiredOption("--out <folder>", "the checkpoint to make; nothing is overwritten")
    .addOption(repeated("--set <option=value>", "an option of the component; may be repeated"))
    .addOption(repeated("--adapter <folder>", "merge a PEFT adapter into the weights; may be repeated, in order").default([]))
    .option("--attach <folder>", "put a PEFT adapter beside the weights, where it goes on learning (the component's option lora)")
    .option("--any-base", "take adapters that name another base model, if their shapes fit")
    .option("--onto <checkpoint>", "keep the other components of this checkpoint beside the imported one")
    .option("--partial", "go on without what is missing, mis-shaped or not supported")
    .addOption(new Option("--bias-resize <how>", "how relative bias tables are made to fit another grid").choices(["bilinear", "geometric"]).default("bilinear"))
    .action((path: string, o: ImportChoice & { adapter: string[] }) => stoppable(output, async (signal) => {
      const report = await importWeights(path, { ...o, adapters: o.adapter, signal });
      output.event({ event: "import", ...report } as { event: string });
      for (const warning of report.warnings) output.warn(warning);
      output.say(formatImport(report));
    }));

  command("export <checkpoint>", "write one component of a checkpoint as released models are written")
    .requiredOption("--as <family>", "llama, beit, clip, bert, vq-kd, vlmo, or peft: the adapter beside the weights")
    .requiredOption("--out <folder>", "the folder to make; nothing is overwritten")
    .option("--component <name>", "which component, where several would do")
    .option("--dialect <name>", "how names are written: hugging-face, unilm, openai, meta, inner")
    .addOption(new Option("--dtype <dtype>", "of the floats; default: as stored").choices(["f32", "bf16", "f16"]))
    .option("--max-shard-bytes <n>", "largest file before several are written", positive)
    .option("--alpha <n>", "lora_alpha of an exported adapter", number)
    .action((checkpoint: string, o: ExportChoice) => stoppable(output, async (signal) => {
      const report = await exportWeights(checkpoint, { ...o, signal });
      output.event({ event: "export", ...report } as { event: string });
      for (const name of report.left) output.warn(`${name} has no name in ${report.as}'s ${report.dialect} format and was left out`);
      output.say(`${report.out}: ${report.tensors} tensors of ${report.component}, ${megabytes(report.bytes)}, as ${report.as} (${report.dialect}): ${report.files.join(", ")}`);
    }));
}

async function stoppable(output: Output, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = stopOnSignals((message) => output.warn(message), { after: "after the current tensor, leaving nothing" });
  try {
    await work(stop.signal);
  } finally {
    stop.dispose();
  }
}

function formatInspection({ path, format, tensors, parameters, bytes, guess }: Inspection): string {
  const widest = Math.max(0, ...tensors.map(({ name }) => name.length));
  return [
    ...tensors.map(({ name, dtype, shape }) => `${name.padEnd(widest)}  ${dtype.padEnd(4)}  (${shape.join(", ")})`),
    `${path}: ${format}, ${tensors.length} tensors, ${parameters.toLocaleString("en")} numbers, ${megabytes(bytes)}`,
    guess ? `looks like ${guess.family} (${guess.dialect} names: ${guess.understood} of ${tensors.length} understood), for ${guess.plugins.join(" or ")}` : "",
  ].filter(Boolean).join("\n");
}

function formatImport(report: ImportReport): string {
  const list = (what: string, names: readonly string[]): string[] => (names.length === 0 ? [] : [`${what}:`, ...names.map((name) => `  ${name}`)]);
  return [
    `${report.out}: ${report.taken} tensors for ${report.use} from ${report.family} (${report.dialect} names), ${megabytes(report.bytes)}`,
    ...list("options", Object.entries(report.options).map(([key, value]) => `${key}: ${JSON.stringify(value)}`)),
    ...list("resized", report.resized.map(({ name, from, to, how }) => `${name} (${from.join(", ")}) -> (${to.join(", ")}): ${how}`)),
    ...list("start afresh, this format does not hold them", report.fresh),
    ...list("missing", report.missing),
    ...list("mis-shaped, left out", report.misshapen.map(({ name, expected, found }) => `${name}: (${found.join(", ")}) instead of (${expected.join(", ")})`)),
    ...list("not supported", report.unsupported.map(({ option, value, from }) => `${option} = ${JSON.stringify(value)} (${from})`)),
    ...list("known, of no use to this component", report.unused),
    ...list("unexpected, left out", report.unexpected),
    ...list("adapters merged", report.adapters),
    ...list("adapter beside the weights", report.attached === undefined ? [] : [report.attached]),
  ].join("\n");
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0)} MB`;

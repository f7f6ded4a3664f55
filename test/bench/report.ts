/**
 * What every benchmark says, and where it is kept.
 *
 * BR-1: with --json a case is one line {"event":"bench","case":...,"value":...,"unit":...,"ok":...} on standard output and nothing
 *       else is written there; without it a line for people.
 * BR-2: a case that is not ok makes the process end with status 1; a case without a bar is ok.
 * BR-3: with --write the cases go into results/<theme>_<hardware>_<yyyy-mm>.md, between two marks; what people wrote around them stays.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { native } from "../../runtime/native.ts";

export interface Case {
  /** "theme/what/setting": stable, it is what two runs are compared by. */
  case: string;
  value: number;
  unit: string;
  /** How many times better than the peer, or which share of the reference, is reached. */
  ratio?: number;
  /** The least `ratio` that is ok; where there is no ratio, the bound of `value`. */
  bar?: number;
  ok?: boolean;
  /** For people, in place of the other facts. */
  note?: string;
  [more: string]: unknown;
}

/** For `parseArgs`: the flags that every benchmark has. */
export const reportFlags = { json: { type: "boolean", default: false }, write: { type: "boolean", default: false } } as const;
const json = process.argv.includes("--json"), write = process.argv.includes("--write");

/** Four digits. */
export const rounded = (x: number): number => Number(x.toPrecision(4));
/** The middle value; of an even number of values the upper middle one. */
export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
/** A word to people; silent with --json. */
export const say = (text: string): void => { if (!json) console.log(text); };

const reported: Case[] = [];

export function report(found: Case): void {
  const line = { ...found, value: rounded(found.value), ...(found.ratio === undefined ? {} : { ratio: rounded(found.ratio) }), ok: found.ok ?? true };
  reported.push(line);
  if (!line.ok) process.exitCode = 1;
  if (json) console.log(JSON.stringify({ event: "bench", ...line }));
  else console.log([line.case.padEnd(56), `${line.value}`.padStart(9), line.unit.padEnd(8), verdict(line).padEnd(26), line.note ?? facts(line)].join(" ").trimEnd());
}

function verdict({ ratio, bar, ok }: Case): string {
  const reached = ratio === undefined ? "" : `${ratio} x`;
  return bar === undefined ? reached : `${reached}${reached && ", "}bar ${bar}: ${ok ? "ok" : "MISSED"}`;
}

function facts(line: Case): string {
  const known = new Set(["case", "value", "unit", "ratio", "bar", "ok", "note"]);
  const shown = (value: unknown): string => (typeof value === "object" ? JSON.stringify(value) : String(value));
  return Object.entries(line).filter(([name, value]) => !known.has(name) && value !== undefined).map(([name, value]) => `${name} ${shown(value)}`).join(", ");
}

/** The machine and the versions that a number belongs to. */
export function machine(): { cpu: string; cores: number; isa: string[]; gemm: string; node: string; torch: string; memory: string; system: string; load: number } {
  const { isa, gemm, cores } = native().info();
  const field = (name: string): string | undefined => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  const torch = spawnSync("/usr/bin/python3", ["-B", "-c", "import torch; print(torch.__version__)"], { encoding: "utf8" });
  return {
    cpu: `${cpus()[0].model} (family ${field("cpu family") ?? "?"}, model ${field("model") ?? "?"})`, cores, isa, gemm: `${gemm.library} ${gemm.version ?? ""}`.trim(), node: process.version,
    torch: torch.status === 0 ? torch.stdout.trim() : "none", memory: `${Math.round(totalmem() / 2 ** 30)} GiB`, system: `Linux ${release()}`, load: rounded(loadavg()[0]),
  };
}

/** "epyc-2core-avx512": the processor's name without its maker, how many of its cores are ours, its widest vectors. */
export function hardware(): string {
  const { isa, cores } = native().info();
  const name = cpus()[0].model.replace(/@.*$|\((R|TM)\)|\b(AMD|Intel|CPU|Processor|\d+-Core)\b/gi, " ").trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const vectors = isa.some((flag) => flag.startsWith("avx512")) ? "avx512" : isa.includes("avx2") ? "avx2" : "sse";
  return `${name}-${cores}core-${vectors}`;
}

const [begin, end] = ["<!-- cases: written by --write -->", "<!-- end of cases -->"];

/** With --write: the cases reported so far, into the theme's result file. Call it once, at the end. */
export function keep(theme: string, title: string): void {
  if (!write || reported.length === 0) return;
  const path = fileURLToPath(new URL(`results/${theme}_${hardware()}_${new Date().toISOString().slice(0, 7)}.md`, import.meta.url));
  const before = existsSync(path) ? readFileSync(path, "utf8") : `# ${title}\n\n${begin}\n${end}\n`;
  const text = before.includes(begin) ? before : `${before.trimEnd()}\n\n## The last run\n\n${begin}\n${end}\n`;
  writeFileSync(path, text.slice(0, text.indexOf(begin) + begin.length) + `\n${section(theme)}\n` + text.slice(text.indexOf(end)));
  say(`written: ${path}`);
}

function section(theme: string): string {
  const m = machine(), flags = process.argv.slice(2).filter((flag) => flag !== "--write" && flag !== "--json");
  return [
    `- **Machine**: ${m.cpu}, ${m.cores} cores, ${m.isa.join(" ")}, ${m.memory}, ${m.system}; load at the end ${m.load}.`,
    `- **Versions**: node ${m.node}, products by ${m.gemm}, PyTorch ${m.torch}.`,
    `- **Command**: \`npm run bench -- ${[basename(process.argv[1], ".ts"), ...flags].join(" ")}\`, ${new Date().toISOString().slice(0, 10)}${theme === basename(process.argv[1], ".ts") ? "" : ` (${theme})`}.`,
    "", "| case | value | ratio | bar | ok | more |", "|---|---|---|---|---|---|",
    ...reported.map((line) => `| ${line.case} | ${line.value} ${line.unit} | ${line.ratio ?? ""} | ${line.bar ?? ""} | ${line.bar === undefined ? "" : line.ok ? "yes" : "**no**"} | ${line.note ?? facts(line)} |`),
  ].join("\n");
}

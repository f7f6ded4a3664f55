/** What `octavo check` prints: the components, the stages and what travels between them, as tables for people and as plain data for programs. */
import { formatDims } from "../../plugin/ports.ts";
import type { CheckResult } from "./check.ts";
import { type LayoutPlan, axes } from "./layout.ts";
import type { EdgeTensor, StageEdge } from "./plan.ts";
import { numbersIn } from "./plan.ts";
import { entryOf, formatRows, kindB, kindF, kindI, kindW, stagesOfRanks } from "../schedule/schedule.ts";

/** Tables as text; ends without a newline. */
export function formatCheck(result: CheckResult): string {
  const { recipe, plan, schedule, simulation } = result;
  const { steps, batch, microbatches } = recipe.train;
  return [
    `${recipe.name}: ${steps} steps of ${batch} pages in ${microbatches} microbatches, precision ${recipe.train.precision}, seed ${recipe.seed}, schedule ${schedule.name}, optimizer ${result.optimizer.use}`,
    "", ...componentTable(result),
    "", ...stageTable(result),
    ...(plan.edges.length > 0 ? ["", ...edgeTable(result)] : []),
    ...rankTable(result.layout), ...bridgeTable(result.layout),
    "", legend(result), formatRows(schedule),
    `  with stages of equal speed they stand still ${percent(simulation.bubble)} of the time; backward counted as two forwards`,
    ...result.warnings.map((warning) => `warning: ${warning}`),
    "", "No problems found.",
  ].join("\n");
}

/** The same as plain data, one JSON object. */
export function checkToJson(result: CheckResult): Record<string, unknown> {
  const { recipe, graph, plan, layout, schedule, simulation } = result;
  return {
    name: recipe.name, file: recipe.file, seed: recipe.seed, train: recipe.train,
    components: graph.nodes.map((node) => ({
      name: node.name, use: node.use, kind: node.kind, version: node.plugin.version, options: node.options, frozen: node.frozen,
      parameters: numbersIn(node, false), trainable: numbersIn(node, true), stage: plan.stages.find((s) => s.components.includes(node.name))?.name,
    })),
    connections: graph.edges.map((edge) => ({ from: edge.from.join("."), to: edge.to.join("."), dtype: edge.dtype, dims: edge.dims, gradient: edge.gradient })),
    stages: plan.stages,
    edges: plan.edges.map((edge) => ({ ...edge, tensors: edge.tensors.map((t) => ({ ...t, from: t.from.join("."), to: t.to.map((end) => end.join(".")) })) })),
    sizes: plan.sizes,
    slots: layout.slots, ranks: layout.ranks, bridges: layout.bridges.map(({ edge, routes }) => ({ edge: edge.id, routes })),
    schedule: { name: schedule.name, microbatches: schedule.microbatches, ranks: stagesOfRanks(schedule).map((held, rank) => ({
      name: schedule.ranks[rank], stages: held.map((stage) => schedule.stages[stage].name), microbatchesAlive: simulation.peakMicrobatches[rank],
      entries: Array.from(schedule.entries[rank], (entry) => { const { stage, kind, microbatch } = entryOf(entry, schedule); return { stage: schedule.stages[stage].name, kind, microbatch }; }),
    })) },
    bubble: simulation.bubble, warnings: result.warnings,
  };
}

function componentTable({ graph, plan }: CheckResult): string[] {
  const rows = graph.nodes.map((node) => [
    node.name, node.use, node.plugin.version, count(numbersIn(node, false)), node.frozen ? "frozen" : count(numbersIn(node, true)),
    plan.stages.find((s) => s.components.includes(node.name))?.name ?? "",
    Object.entries(node.inputs).filter(([port]) => graph.edges.some((e) => e.to[0] === node.name && e.to[1] === port)).map(([port, from]) => (from.endsWith(`.${port}`) ? from : `${port}: ${from}`)).join(", "),
  ]);
  const total = (learning: boolean): number => graph.nodes.reduce((sum, node) => sum + numbersIn(node, learning), 0);
  return table(["component", "use", "version", "parameters", "trainable", "stage", "inputs"], [...rows, ["total", "", "", count(total(false)), count(total(true)), "", ""]], [3, 4]);
}

/** A stage is a process, unless several stages are dealt to one. */
function stageTable({ plan, schedule, simulation }: CheckResult): string[] {
  const alone = schedule.ranks.length === plan.stages.length, splits = schedule.entries.some((list) => list.some((entry) => (entry & 3) === kindI));
  return table([alone ? "stage (process)" : "stage", ...(alone ? [] : ["process"]), "components", "parameters", "depth", "microbatches alive", "runs"], plan.stages.map((stage, i) => {
    const { rank } = schedule.stages[i];
    return [
      stage.name, ...(alone ? [] : [schedule.ranks[rank]]), stage.components.join(", "), count(stage.parameters), String(stage.depth),
      stage.backward ? `at most ${simulation.stageMicrobatches[i]}` : "", stage.backward ? `forward, backward${splits ? " in halves" : ""}` : "forward",
    ];
  }), alone ? [2, 3] : [3, 4]);
}

function legend({ schedule }: CheckResult): string {
  const kinds = new Set(schedule.entries.flatMap((list) => [...new Set(Array.from(list, (entry) => entry & 3))]));
  const words = [[kindF, "F forward"], [kindB, "B backward"], [kindI, "I backward to the inputs"], [kindW, "W to the weights"]] as const;
  const several = stagesOfRanks(schedule).some((held) => held.length > 1);
  return `schedule (${words.filter(([kind]) => kinds.has(kind)).map(([, word]) => word).join(", ")}; ${several ? "before it the stage, counted from 0 among those with a backward, after it" : "the number is"} the microbatch)`;
}

function edgeTable({ plan, recipe: { train: { precision } } }: CheckResult): string[] {
  const rows = plan.edges.flatMap((edge) => [
    ...edge.tensors.map((t, i) => [i === 0 ? `${edge.from} -> ${edge.to}` : "", t.from.join("."), t.dtype, formatDims(t.dims), bytes(t.bytes), t.gradient ? bytes(t.bytes) : "-"]),
    ...(edge.tensors.length > 1 ? [["", "together", "", "", sum(edge.tensors), edge.gradient ? sum(edge.tensors.filter((t) => t.gradient)) : "-"]] : []),
  ]);
  const unknown = [...new Set(plan.edges.flatMap((edge) => unsized(edge, plan.sizes)))];
  const sizes = Object.entries(plan.sizes).filter(([name]) => plan.edges.some((e) => e.tensors.some((t) => t.dims.includes(name)))).map(([name, value]) => `${name} = ${value}`);
  return [
    ...table(["between stages", "tensor", "dtype", "shape", "per microbatch", "gradient back"], rows, [4, 5]),
    ...(sizes.length > 0 ? [`  with at most ${sizes.join(", ")}`] : []),
    ...(precision === "f32" ? [] : [`  ${precision === "auto" ? "should auto choose bf16, " : ""}activations and their gradients take half of this in bf16`]),
    ...(unknown.length > 0 ? [`  ? where no component says how large ${unknown.join(", ")} can be`] : []),
  ];
}

const copied = ({ slots, ranks }: LayoutPlan): boolean => ranks.length > slots.length;
/** As many rows of a table as one reads; the rest is in the plain data. */
const shown = 40;

function rankTable(layout: LayoutPlan): string[] {
  if (!copied(layout)) return [];
  const rows = layout.ranks.map((rank) => [rank.name, rank.stages.join(", "), ...axes.map((axis) => (rank.layout[axis] > 1 ? `${rank[axis]} of ${rank.layout[axis]}` : ""))]);
  return ["", ...table(["rank (process)", "stages", ...axes], rows.slice(0, shown), []), ...more(rows, "ranks")];
}

/** Who sends which microbatches to whom, where slots have more ranks than one. */
export function bridgeTable(layout: LayoutPlan): string[] {
  if (!copied(layout)) return [];
  const rows = layout.bridges.flatMap(({ routes }) => routes.map(({ from, to, carries, microbatches, bytes: size }) => [`${from} -> ${to}`, carries, runs(microbatches), bytes(size)]));
  return ["", ...table(["between ranks", "carries", "microbatches", "per step"], rows.slice(0, shown), [3]), ...more(rows, "connections")];
}

const more = (rows: readonly unknown[], what: string): string[] => (rows.length > shown ? [`  and ${rows.length - shown} ${what} more`] : []);

/** `0-3, 8`. */
function runs(numbers: readonly number[]): string {
  const found: number[][] = [];
  for (const n of numbers) {
    const last = found.at(-1);
    if (last && last.at(-1) === n - 1) last[1] = n;
    else found.push([n]);
  }
  return found.map((run) => run.join("-")).join(", ");
}

const unsized = (edge: StageEdge, sizes: Record<string, number>): string[] =>
  edge.tensors.filter((t) => t.bytes === undefined).flatMap((t) => t.dims.filter((d): d is string => typeof d === "string" && !(d in sizes)));

/** Columns padded to their widest cell, two spaces apart, numbers (`right`) to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], right: readonly number[]): string[] {
  const widths = head.map((title, c) => Math.max(title.length, ...rows.map((row) => row[c].length)));
  const line = (row: readonly string[]): string => row.map((cell, c) => (right.includes(c) ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join("  ").trimEnd();
  return [line(head), ...rows.map(line)];
}

export const count = (n: number): string => (n === 0 ? "-" : n.toLocaleString("en-US"));
const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;

/** What is known of a sum, and that there is more. */
function sum(tensors: readonly EdgeTensor[]): string {
  const known = tensors.reduce((total, t) => total + (t.bytes ?? 0), 0);
  return tensors.every((t) => t.bytes !== undefined) ? bytes(known) : `${bytes(known)} + ?`;
}

export function bytes(n: number | undefined): string {
  if (n === undefined) return "?";
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`;
  return n < 1024 ** 3 ? `${(n / 1024 / 1024).toFixed(1)} MiB` : `${(n / 1024 ** 3).toFixed(1)} GiB`;
}

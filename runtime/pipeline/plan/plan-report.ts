/** What `octavo plan` prints: ranks with their memory, stages with their cost, edges with their bytes; as tables and as plain data. */
import { formatLayout } from "./layout.ts";
import { type RankPlan, type RecipePlan, fullest } from "./on-paper.ts";
import { bridgeTable, bytes as formatBytes, table } from "./report.ts";

export function formatPlan(name: string, found: RecipePlan): string {
  const { schedule, simulation, layout, plan, estimates, estimated, unit } = found;
  const slotOf = new Map(layout.slots.flatMap((slot) => slot.stages.map((stage) => [stage, slot.name])));
  return [
    `${name}: schedule ${schedule.name}, ${schedule.microbatches} microbatches, ${layout.ranks.length} ranks`,
    "", ...table(["stage", "rank", "components", "parameters", "forward", "backward", "activations"], plan.stages.map((stage, i) => [
      stage.name, slotOf.get(stage.name)!, stage.components.join(", "), stage.parameters.toLocaleString("en-US"), cost(estimates[i].forward, unit),
      stage.backward ? cost(estimates[i].inputGradient + estimates[i].weightGradient, unit) : "-", stage.backward ? formatBytes(estimates[i].activations) : "-",
    ]), [3, 4, 5, 6]),
    unit === "microseconds" ? "  per microbatch; measured here, one component after another; bytes are estimates"
      : "  per microbatch; counted where a plugin's layers are known, else estimated from the shapes of its weights",
    ...(found.unsized.length > 0 && unit === "operations" ? [`  ${found.unsized.join(", ")}: no component says how large their inputs can be, they count as nothing`] : []),
    "", ...table(["memory per rank", "parameters", "gradients", "optimizer", "activations", "microbatches", "together", "busy"], bySlot(found).map(({ title, rank }) => [
      title, ...[rank.parameters, rank.gradients, rank.optimizer, rank.activations].map(formatBytes), rank.microbatches === 0 ? "-" : `at most ${rank.microbatches}`, formatBytes(rank.total), `${(rank.busy * 100).toFixed(0)} %`,
    ]), [1, 2, 3, 4, 5, 6, 7]),
    ...(plan.edges.length > 0 ? ["", ...table(["between stages", "per microbatch", "gradient back", "per step"], plan.edges.map((edge) => [
      `${edge.from} -> ${edge.to}`, formatBytes(edge.bytes), edge.gradient ? formatBytes(edge.gradientBytes) : "-",
      formatBytes(edge.bytes === undefined || edge.gradientBytes === undefined ? undefined : (edge.bytes + edge.gradientBytes) * plan.microbatches),
    ]), [1, 2, 3])] : []),
    ...bridgeTable(layout),
    "", `ranks that learn stand still ${(simulation.bubble * 100).toFixed(1)} % of the step (bubble)${estimated ? "" : "; no stage has weights to estimate by: all cost the same"}`,
  ].join("\n");
}

/** A row per slot: of its copies the fullest. */
function bySlot({ layout, ranks }: RecipePlan): { title: string; rank: RankPlan }[] {
  return layout.slots.map((slot) => {
    const own = ranks.filter((rank) => rank.slot === slot.name), count = own.reduce((sum, rank) => sum + rank.members, 0);
    return { title: count === 1 ? slot.name : `${slot.name} x${count} (${formatLayout(slot.layout)})`, rank: fullest(own) };
  });
}

/** The same as plain data, one JSON object; bytes; costs and `makespan` in `unit`. */
export function planToJson(name: string, { schedule, simulation, layout, ranks, plan, estimates, unsized, unit }: RecipePlan): Record<string, unknown> {
  return {
    name, schedule: schedule.name, microbatches: schedule.microbatches, bubble: simulation.bubble, makespan: simulation.makespan, unit,
    stages: plan.stages.map((stage, i) => ({ ...stage, rank: schedule.ranks[schedule.stages[i].rank], estimate: estimates[i] })),
    ranks, slots: layout.slots, bridges: layout.bridges.map(({ edge, routes }) => ({ edge: edge.id, routes })), edges: plan.edges.map(({ id, from, to, bytes, gradientBytes, credits }) => ({ id, from, to, bytes, gradientBytes, credits })), sizes: plan.sizes, unsized,
  };
}

function cost(n: number, unit: RecipePlan["unit"]): string {
  if (unit === "microseconds") return n === 0 ? "-" : `${(n / 1000).toFixed(2)} ms`;
  const [size, flops] = n >= 1e12 ? [1e12, "TFLOP"] : n >= 1e9 ? [1e9, "GFLOP"] : [1e6, "MFLOP"];
  return n === 0 ? "-" : `${(n / size).toFixed(1)} ${flops}`;
}

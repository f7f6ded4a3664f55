/**
 * A checked recipe on paper, under one schedule: its ranks, what each holds and remembers, and how long it stands still.
 *
 * ON-1: no tensor is allocated, no data read; costs are estimates (`estimate.ts`) or were measured before (`profile.ts`), all ranks are
 *       equally fast, messages cost nothing.
 */
import { RuntimeError } from "../../errors.ts";
import type { CheckResult } from "./check.ts";
import { type ComponentProfile, type StageEstimate, estimateStages, unsizedComponents } from "./estimate.ts";
import type { GraphNode } from "../graph/graph.ts";
import type { LayoutPlan } from "./layout.ts";
import { layOut } from "./layout-rules.ts";
import type { Plan } from "./plan.ts";
import { type ScheduleChoice, placeSchedule } from "./choice.ts";
import { keptBytes, partialSumsOf, stateTensorsOf } from "./rank-memory.ts";
import type { RankCosts } from "../schedule/progress.ts";
import { type Placement, type RankSchedule, kindF, kindI, rankAt, stagesOfRanks } from "../schedule/schedule.ts";
import { type RankSimulation, equalCosts, simulateRanks } from "../schedule/simulate.ts";

export interface PaperChoice extends ScheduleChoice {
  /** What components cost here, in place of estimates. */
  profile?: readonly ComponentProfile[];
}

/** One row of the schedule: a rank, or with tensor or context ranks the leader of a copy, whose members need the same. */
export interface RankPlan {
  name: string;
  slot: string;
  stages: string[];
  /** Ranks that do and hold the same, itself included. */
  members: number;
  /** Bytes. `activations`: the most that the schedule lets the rank remember. */
  parameters: number;
  gradients: number;
  optimizer: number;
  activations: number;
  total: number;
  /** Most microbatches remembered at once, of all its stages. */
  microbatches: number;
  /** Share of the step in which it computes. */
  busy: number;
}

export interface RecipePlan {
  plan: Plan;
  layout: LayoutPlan;
  schedule: RankSchedule;
  estimates: StageEstimate[];
  /** What costs are in: operations where they are estimates, microseconds where they were measured. */
  unit: "operations" | "microseconds";
  ranks: RankPlan[];
  simulation: RankSimulation;
  /** Bytes per stage of one remembered microbatch. */
  activationBytes: Float64Array;
  /** False when no stage costs anything by estimate: then all cost the same. */
  estimated: boolean;
  /** Components that count as nothing, since no size of theirs is known. */
  unsized: string[];
}

/** A plan of stages under a schedule: authored for its layouts, or what copies have of a CSV. Throws ERR_SCHEDULE, ERR_PLAN. */
export function onPaper(checked: CheckResult, plan: Plan, { profile, ...choice }: PaperChoice): RecipePlan {
  const placed = placeSchedule(plan, choice), layout = layoutOf(checked, plan, placed.placement), schedule = placed.schedule(layout.slots.map((slot) => slot.layout));
  return { plan, layout, schedule, ...simulated(checked, plan, layout, schedule, profile) };
}

function layoutOf({ recipe, graph }: CheckResult, plan: Plan, placement: Placement): LayoutPlan {
  const { layout } = layOut({ recipe, graph, plan, placement, say: (path, { expected, found, fix }) => {
    throw new RuntimeError("ERR_PLAN", `plan: ${path.join(".")}: expected ${expected}, found ${found}. ${fix}`, { where: path.join("."), expected, found });
  } });
  return layout!;
}

function simulated(checked: CheckResult, plan: Plan, layout: LayoutPlan, schedule: RankSchedule, profile?: readonly ComponentProfile[]): Omit<RecipePlan, "plan" | "layout" | "schedule"> {
  const { graph, recipe } = checked;
  const estimated = estimateStages(graph, plan, { bf16: recipe.train.precision === "bf16", recompute: recipe.train.recompute === "block" });
  const estimates = profile ? withTimes(estimated, plan, profile) : estimated;
  const activationBytes = Float64Array.from(estimates, (estimate) => estimate.activations);
  const known = estimates.some((estimate) => estimate.forward > 0);
  const simulation = simulateRanks(schedule, known ? costsOf(estimates) : equalCosts(schedule), { activationBytes, record: true, credits: true });
  const ranks = rankPlans(checked, { plan, layout, schedule, estimates, simulation });
  return { estimates, unit: profile ? "microseconds" : "operations", ranks, simulation, activationBytes, estimated: known, unsized: unsizedComponents(graph, plan.sizes) };
}

function rankPlans(checked: CheckResult, { plan, layout, schedule, estimates, simulation }: Pick<RecipePlan, "plan" | "layout" | "schedule" | "estimates" | "simulation">): RankPlan[] {
  const settings = { stateTensors: stateTensorsOf(checked), zero: checked.recipe.train.zero };
  return stagesOfRanks(schedule).map((held, rank): RankPlan => {
    const name = schedule.ranks[rank], place = layout.ranks.find((one) => one.name === name)!;
    const nodes = held.flatMap((stage) => nodesOf(checked, plan, stage)), sums = Math.max(...held.map((stage) => partialSums(schedule, rank, stage)));
    const { parameters, gradients, optimizer } = keptBytes(nodes, place.layout, sums, settings);
    const activations = simulation.peakBytes[rank] + Math.max(...held.map((stage) => estimates[stage].transient));
    return {
      name, slot: place.slot, stages: held.map((stage) => schedule.stages[stage].name), members: place.layout.tensor * place.layout.context, parameters, gradients, optimizer, activations,
      total: parameters + gradients + optimizer + activations, microbatches: simulation.peakMicrobatches[rank],
      busy: simulation.makespan > 0 ? simulation.busy[rank] / simulation.makespan : 0,
    };
  });
}

const nodesOf = ({ graph }: CheckResult, plan: Plan, stage: number): GraphNode[] => plan.stages[stage].components.map((name) => graph.nodes.find((node) => node.name === name)!);

/** Of the gradients of a stage on a rank, in the order in which its schedule makes them. */
function partialSums(schedule: RankSchedule, rank: number, stage: number): number {
  const { microbatches, stages } = schedule;
  const share = microbatches / (stages[stage].copies ?? 1), first = stages[stage].rank;
  const order: number[] = [];
  for (const entry of schedule.entries[rank]) {
    const cell = entry >>> 2, kind = entry & 3;
    if (kind === kindF || kind === kindI || Math.floor(cell / microbatches) !== stage || rankAt(stages[stage], cell % microbatches, microbatches) !== rank) continue;
    order.push((cell % microbatches) - (rank - first) * share);
  }
  return order.length === 0 ? 0 : partialSumsOf(order);
}

/** The times of components in place of their operations; bytes stay estimates. */
function withTimes(estimates: readonly StageEstimate[], plan: Plan, profile: readonly ComponentProfile[]): StageEstimate[] {
  const times = new Map(profile.map((one) => [one.component, one]));
  return estimates.map((estimate, stage) => {
    const sum = (what: "forward" | "inputGradient" | "weightGradient"): number => plan.stages[stage].components.reduce((total, component) => total + (times.get(component)?.[what] ?? 0), 0);
    return { ...estimate, forward: sum("forward"), inputGradient: sum("inputGradient"), weightGradient: sum("weightGradient") };
  });
}

/** In the unit of the estimates: all ranks are taken to be equally fast, messages to cost nothing. */
function costsOf(estimates: readonly StageEstimate[]): RankCosts {
  return { compute: Float64Array.from(estimates.flatMap(({ forward, inputGradient, weightGradient }) => [forward, inputGradient + weightGradient, inputGradient, weightGradient])) };
}

export const fullest = (ranks: readonly RankPlan[]): RankPlan => ranks.reduce((most, rank) => (rank.total > most.total ? rank : most));

/**
 * `octavo plan`: a checked recipe under a schedule, on paper: what every rank holds, does and remembers.
 *
 * PR-1: nothing is allocated or read; the recipe's own schedule is one choice, every author of `rank-authors.ts` and CSV are others.
 * PR-2: with a limit of memory a plan that exceeds it on any rank is refused (ERR_PLAN) with the smallest change that was found to fit:
 *       first the schedule, then more microbatches, then a stage of its own for the largest component of that rank.
 */
import { RuntimeError } from "../errors.ts";
import type { OptimizerComponent } from "../plugin/kinds.ts";
import type { CheckResult } from "./check.ts";
import { type EstimateSettings, type StageEstimate, estimateComponent, estimateStages, unsizedComponents } from "./estimate.ts";
import { buildPlan, type Plan } from "./plan.ts";
import { rankAuthorOf } from "./rank-authors.ts";
import { ranksFromCsv } from "./rank-csv.ts";
import type { RankCosts } from "./rank-progress.ts";
import { type RankSchedule, placeStages, stagesOfRanks } from "./rank-schedule.ts";
import { type RankSimulation, equalCosts, simulateRanks } from "./rank-simulate.ts";
import { validateRanks } from "./rank-validate.ts";
import { bytes as formatBytes } from "./report.ts";

export interface PlanChoice {
  /** The name of an author; default: what the recipe says. */
  schedule?: string;
  /** In place of a name: a CSV with cells like 0F0. */
  csv?: { text: string; file: string };
  /** Stages with a backward are dealt round to so many ranks; default: a rank each. */
  ranks?: number;
  /** Bytes that a rank may need. */
  memory?: number;
}

export interface RankPlan {
  name: string;
  stages: string[];
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
  schedule: RankSchedule;
  estimates: StageEstimate[];
  ranks: RankPlan[];
  simulation: RankSimulation;
  /** Bytes per stage of one remembered microbatch. */
  activationBytes: Float64Array;
  /** False when no stage costs anything by estimate: then all cost the same. */
  estimated: boolean;
  /** Components that count as nothing, since no size of theirs is known. */
  unsized: string[];
}

/** What could be changed to make a plan fit. */
interface Variant { schedule: string; microbatches: number; stages: Readonly<Record<string, readonly string[]>>; said: string }

/** Throws ERR_SCHEDULE for a schedule that cannot be, ERR_PLAN for memory that is not enough. */
export function planRecipe(checked: CheckResult, choice: PlanChoice = {}): RecipePlan {
  const { microbatches, schedule: named } = checked.recipe.train;
  const plan = choice.csv ? byCsv(checked, choice.csv) : layOut(checked, checked.plan, choice.schedule ?? named, choice.ranks);
  if (plan.schedule.microbatches !== microbatches) {
    throw new RuntimeError("ERR_SCHEDULE", `schedule ${plan.schedule.name}: expected ${microbatches} microbatches, found ${plan.schedule.microbatches}. Take --microbatches ${plan.schedule.microbatches}.`, { microbatches });
  }
  if (choice.memory !== undefined) requireMemory(checked, plan, choice.memory, choice);
  return plan;
}

const byCsv = (checked: CheckResult, { text, file }: { text: string; file: string }): RecipePlan => onPaper(checked, checked.plan, ranksFromCsv(text, checked.plan, file));

function layOut(checked: CheckResult, plan: Plan, name: string, ranks?: number): RecipePlan {
  return onPaper(checked, plan, rankAuthorOf(name)(placeStages(plan, ranks), plan.microbatches));
}

function onPaper(checked: CheckResult, plan: Plan, schedule: RankSchedule): RecipePlan {
  validateRanks(schedule);
  const { graph } = checked;
  const estimates = estimateStages(graph, plan, settingsOf(checked));
  const activationBytes = Float64Array.from(estimates, (estimate) => estimate.activations);
  const estimated = estimates.some((estimate) => estimate.forward > 0);
  const simulation = simulateRanks(schedule, estimated ? costsOf(estimates) : equalCosts(schedule), { activationBytes, record: true });
  const ranks = stagesOfRanks(schedule).map((held, rank): RankPlan => {
    const sum = (what: keyof StageEstimate): number => held.reduce((total, stage) => total + estimates[stage][what], 0);
    const [parameters, gradients, optimizerBytes, activations] = [sum("parameters"), sum("gradients"), sum("optimizer"), simulation.peakBytes[rank]];
    return {
      name: schedule.ranks[rank], stages: held.map((stage) => schedule.stages[stage].name), parameters, gradients, optimizer: optimizerBytes, activations,
      total: parameters + gradients + optimizerBytes + activations, microbatches: simulation.peakMicrobatches[rank],
      busy: simulation.makespan > 0 ? simulation.busy[rank] / simulation.makespan : 0,
    };
  });
  return { plan, schedule, estimates, ranks, simulation, activationBytes, estimated, unsized: unsizedComponents(graph, plan.sizes) };
}

function settingsOf({ optimizer, host, recipe }: CheckResult): EstimateSettings {
  const rule = (optimizer.plugin.create(optimizer.options, host) as OptimizerComponent).create();
  const stateTensors = rule.stateNames?.length ?? 2; // as Adam, where a rule does not say
  rule.dispose();
  return { stateTensors, bf16: recipe.train.precision === "bf16" };
}

/** In operations: all ranks are taken to be equally fast, messages to cost nothing. */
function costsOf(estimates: readonly StageEstimate[]): RankCosts {
  return { compute: Float64Array.from(estimates.flatMap(({ forward, inputGradient, weightGradient }) => [forward, inputGradient + weightGradient, inputGradient, weightGradient])) };
}

const fullest = (ranks: readonly RankPlan[]): RankPlan => ranks.reduce((most, rank) => (rank.total > most.total ? rank : most));

function requireMemory(checked: CheckResult, found: RecipePlan, memory: number, choice: PlanChoice): void {
  const rank = fullest(found.ranks);
  if (rank.total <= memory) return;
  const parts = (["parameters", "gradients", "optimizer", "activations"] as const).map((part) => `${part} ${formatBytes(rank[part])}`).join(", ");
  const fit = variants(checked, found, rank, choice).map((variant) => ({ variant, need: needOf(checked, variant, choice.ranks) })).find(({ need }) => need !== undefined && need <= memory);
  const fix = fit ? `The smallest change that fits: ${fit.variant.said} (${formatBytes(fit.need)}).` : "Neither another schedule, nor more microbatches, nor a stage for its largest component fits: make the component smaller or the memory larger.";
  throw new RuntimeError("ERR_PLAN", `plan: rank ${rank.name} needs ${formatBytes(rank.total)} (${parts}), expected at most ${formatBytes(memory)}. ${fix}`,
    { rank: rank.name, needed: rank.total, memory, change: fit?.variant.said });
}

/** From the smallest change to the largest. */
function variants(checked: CheckResult, { plan, schedule, estimates }: RecipePlan, rank: RankPlan, { csv, ranks }: PlanChoice): Variant[] {
  const { batch } = checked.recipe.train, { microbatches } = plan;
  const stages = Object.fromEntries(plan.stages.map((stage) => [stage.name, stage.components]));
  const simple = csv || ranks !== undefined ? schedule.name : "1f1b";
  const smaller = Array.from({ length: batch }, (_, i) => i + 1).filter((m) => m > microbatches && batch % m === 0);
  const withMore = (base: Omit<Variant, "microbatches">): Variant[] => smaller.map((m) => ({ ...base, microbatches: m, said: `${base.said ? `${base.said} and ` : ""}train.microbatches: ${m}` }));
  const kept = csv ? [] : withMore({ schedule: schedule.name, stages, said: "" });
  const changed: Variant[] = simple === schedule.name ? [] : [{ schedule: simple, microbatches, stages, said: `schedule ${simple}` }];
  const split = splitStage(checked, plan, rank, estimates);
  const apart = csv || !split ? [] : [{ schedule: schedule.name, microbatches, ...split }, ...withMore({ schedule: schedule.name, ...split })];
  return [...changed, ...kept, ...changed.flatMap((base) => withMore(base)), ...apart];
}

/** The fullest stage of a rank without the component that needs most, which gets a stage of its own. */
function splitStage(checked: CheckResult, plan: Plan, rank: RankPlan, estimates: readonly StageEstimate[]): { stages: Variant["stages"]; said: string } | undefined {
  const bytes = ({ parameters, gradients, optimizer, activations }: StageEstimate): number => parameters + gradients + optimizer + activations;
  const index = plan.stages.map((_, i) => i).filter((i) => rank.stages.includes(plan.stages[i].name) && plan.stages[i].components.length > 1).sort((a, b) => bytes(estimates[b]) - bytes(estimates[a]))[0];
  if (index === undefined) return undefined;
  const { name, components } = plan.stages[index], settings = settingsOf(checked);
  const size = new Map(components.map((component) => [component, bytes(estimateComponent(checked.graph.nodes.find((node) => node.name === component)!, checked.graph, plan, settings))]));
  const largest = components.reduce((most, component) => (size.get(component)! > size.get(most)! ? component : most));
  const rest = components.filter((component) => component !== largest);
  const own = plan.stages.some((stage) => stage.name === `${largest}-stage`) ? `${largest}-own` : `${largest}-stage`;
  const stages = Object.fromEntries(plan.stages.flatMap((stage) => (stage.name === name ? [[own, [largest]], [name, rest]] : [[stage.name, stage.components]])));
  return { stages, said: `a stage of its own for ${largest} (stages: ${own}: [${largest}], ${name}: [${rest.join(", ")}])` };
}

/** Bytes of the fullest rank, or undefined where the variant cannot be. */
function needOf(checked: CheckResult, { schedule, microbatches, stages }: Variant, ranks?: number): number | undefined {
  const { graph, recipe } = checked;
  const { plan, problems } = buildPlan({ graph, names: Object.keys(recipe.components), stages, batch: recipe.train.batch, microbatches, locate: () => ({ file: recipe.file, line: 0, column: 0 }) });
  if (problems.length > 0) return undefined;
  try {
    return fullest(layOut(checked, plan, schedule, ranks).ranks).total;
  } catch (error) {
    if (error instanceof RuntimeError && error.code === "ERR_SCHEDULE") return undefined; // interleaved, where the ranks no longer divide
    throw error;
  }
}

/**
 * The smallest change that makes a plan fit a memory: tried one after another, in the order of what it costs the user.
 *
 * CH-1: first what costs nothing (the schedule), then what data copies can share out (zero 1, 2), more microbatches, then what costs
 *       arithmetic or messages (recompute, zero 3), then two of these together, at last a stage of its own for the largest component.
 * CH-2: a variant is simulated only when all before it did not fit.
 */
import { RuntimeError } from "../../errors.ts";
import type { CheckResult } from "./check.ts";
import { estimateComponent } from "./estimate.ts";
import { type RecipePlan, fullest, onPaper } from "./on-paper.ts";
import { buildPlan, numbersIn } from "./plan.ts";
import type { ScheduleChoice } from "./choice.ts";

type Stages = Readonly<Record<string, readonly string[]>>;
/** What differs from the recipe. */
interface Change { schedule?: string; microbatches?: number; zero?: number; recompute?: "block"; stages?: Stages; said: string }

/** Its words, and the bytes of the fullest rank with it; undefined when none was found. */
export function smallestChange(checked: CheckResult, found: RecipePlan, memory: number, choice: ScheduleChoice): { said: string; need: number } | undefined {
  for (const change of changes(checked, found, choice)) {
    const need = needOf(checked, found, change, choice);
    if (need !== undefined && need <= memory) return { said: change.said, need };
  }
  return undefined;
}

function* changes(checked: CheckResult, found: RecipePlan, choice: ScheduleChoice): Generator<Change> {
  const { batch, zero, recompute } = checked.recipe.train, { microbatches } = found.plan;
  const copied = found.layout.slots.some((slot) => slot.learns && slot.layout.data > 1);
  // a schedule that somebody wrote, and stages that share ranks, leave the schedule and the microbatches as they are
  const schedules: Change[] = choice.csv || choice.ranks !== undefined || found.schedule.name === "1f1b" ? [] : [{ schedule: "1f1b", said: "schedule 1f1b" }];
  const finer: Change[] = choice.csv ? [] : Array.from({ length: batch }, (_, i) => i + 1).filter((m) => m > microbatches && batch % m === 0).map((m) => ({ microbatches: m, said: `train.microbatches: ${m}` }));
  const shared: Change[] = copied ? [1, 2, 3].filter((level) => level > zero).map((level) => ({ zero: level, said: `train.zero: ${level}` })) : [];
  const again: Change[] = recompute === "none" ? [{ recompute: "block", said: "train.recompute: block" }] : [];
  const cheap = shared.filter((change) => change.zero! < 3), dear = [...again, ...shared.filter((change) => change.zero === 3)];
  yield* [...schedules, ...cheap, ...finer, ...pairs(schedules, finer), ...dear];
  yield* pairs(cheap, [...finer, ...again]);
  yield* pairs(dear, finer);
  yield* pairs(again, shared.filter((change) => change.zero === 3));
  const apart = choice.csv ? [] : splitStage(checked, found);
  yield* [...apart, ...pairs(apart, finer), ...pairs(apart, [...cheap, ...dear])];
}

const pairs = (first: readonly Change[], second: readonly Change[]): Change[] => first.flatMap((a) => second.map((b) => ({ ...a, ...b, said: `${a.said} and ${b.said}` })));

/** The fullest stage of the fullest rank without the component that needs most, which gets a stage of its own. */
function splitStage(checked: CheckResult, { plan, ranks, estimates }: RecipePlan): Change[] {
  const rank = fullest(ranks), { precision, recompute } = checked.recipe.train;
  const sizeOf = (name: string): number => {
    const node = checked.graph.nodes.find((one) => one.name === name)!;
    return 4 * numbersIn(node, false) + 8 * numbersIn(node, true) + estimateComponent(node, checked.graph, plan, { bf16: precision === "bf16", recompute: recompute === "block" }).activations;
  };
  const total = (stage: number): number => plan.stages[stage].components.reduce((sum, name) => sum + sizeOf(name), estimates[stage].transient);
  const index = plan.stages.map((_, i) => i).filter((i) => rank.stages.includes(plan.stages[i].name) && plan.stages[i].components.length > 1).sort((a, b) => total(b) - total(a))[0];
  if (index === undefined) return [];
  const { name, components } = plan.stages[index];
  const largest = components.reduce((most, component) => (sizeOf(component) > sizeOf(most) ? component : most));
  const rest = components.filter((component) => component !== largest);
  const own = plan.stages.some((stage) => stage.name === `${largest}-stage`) ? `${largest}-own` : `${largest}-stage`;
  const stages = Object.fromEntries(plan.stages.flatMap((stage) => (stage.name === name ? [[own, [largest]], [name, rest]] : [[stage.name, stage.components]])));
  return [{ stages, said: `a stage of its own for ${largest} (stages: ${own}: [${largest}], ${name}: [${rest.join(", ")}])` }];
}

/** Bytes of the fullest rank, or undefined where the variant cannot be. */
function needOf(checked: CheckResult, found: RecipePlan, change: Change, choice: ScheduleChoice): number | undefined {
  const { graph, recipe } = checked, { train } = recipe;
  const stages = change.stages ?? Object.fromEntries(found.plan.stages.map((stage) => [stage.name, stage.components]));
  const changed = { ...checked, recipe: { ...recipe, train: { ...train, zero: change.zero ?? train.zero, recompute: change.recompute ?? train.recompute } } };
  const { plan, problems } = buildPlan({ graph, names: Object.keys(recipe.components), stages, batch: train.batch, microbatches: change.microbatches ?? found.plan.microbatches, locate: () => ({ file: recipe.file, line: 0, column: 0 }) });
  if (problems.length > 0) return undefined;
  try {
    return fullest(onPaper(changed, plan, { ...choice, schedule: change.schedule ?? choice.schedule }).ranks).total;
  } catch (error) {
    if (error instanceof RuntimeError && (error.code === "ERR_SCHEDULE" || error.code === "ERR_PLAN")) return undefined; // interleaved, where the ranks no longer divide
    throw error;
  }
}

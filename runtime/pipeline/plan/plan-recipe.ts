/**
 * `octavo plan`: a checked recipe under a schedule, on paper: what every rank holds, does and remembers.
 *
 * PR-1: no tensor is allocated, no data read; the recipe's own schedule is one choice, every author of `schedule/authors.ts` and CSV are others.
 * PR-2: with a limit of memory a plan that exceeds it on any rank is refused (ERR_PLAN) with the smallest change that was found to fit
 *       (`plan-change.ts`).
 */
import { RuntimeError } from "../../errors.ts";
import type { CheckResult } from "./check.ts";
import { type PaperChoice, type RecipePlan, fullest, onPaper } from "./on-paper.ts";
import { smallestChange } from "./plan-change.ts";
import { scheduleNamed } from "./choice.ts";
import { bytes as formatBytes } from "./report.ts";

/** In place of what the recipe says. A CSV says itself on how many ranks. */
export interface PlanChoice extends PaperChoice {
  /** Bytes that a rank may need. */
  memory?: number;
}

/** Throws ERR_SCHEDULE for a schedule that cannot be, ERR_PLAN for layouts that cannot be and for memory that is not enough. */
export function planRecipe(checked: CheckResult, { memory, ...choice }: PlanChoice = {}): RecipePlan {
  const { train: { schedule, ranks }, folder } = checked.recipe, own = choice.schedule === undefined && choice.csv === undefined;
  const whole: PaperChoice = { ...(choice.csv ? {} : { ranks }), ...(own ? scheduleNamed(schedule, folder) : {}), ...choice };
  const found = onPaper(checked, checked.plan, whole);
  if (memory !== undefined) requireMemory(checked, found, memory, whole);
  return found;
}

function requireMemory(checked: CheckResult, found: RecipePlan, memory: number, choice: PaperChoice): void {
  const rank = fullest(found.ranks);
  if (rank.total <= memory) return;
  const parts = (["parameters", "gradients", "optimizer", "activations"] as const).map((part) => `${part} ${formatBytes(rank[part])}`).join(", ");
  const fit = smallestChange(checked, found, memory, choice);
  const fix = fit ? `The smallest change that fits: ${fit.said} (${formatBytes(fit.need)}).`
    : "Neither another schedule, nor zero, recompute or more microbatches, nor a stage for its largest component fits: make the component smaller or the memory larger.";
  throw new RuntimeError("ERR_PLAN", `plan: rank ${rank.name} needs ${formatBytes(rank.total)} (${parts}), expected at most ${formatBytes(memory)}. ${fix}`,
    { rank: rank.name, needed: rank.total, memory, change: fit?.said });
}

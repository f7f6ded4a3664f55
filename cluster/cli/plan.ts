/** `octavo plan`: a recipe under a schedule, as tables, as one JSON object, as a picture. */
import { writeFileSync } from "node:fs";
import { type Command, InvalidArgumentError, type Option } from "commander";
import { formatPlan, ganttSvg, planToJson } from "../../runtime/index.ts";
import { plan, type PlanRecipeChoice } from "../verbs.ts";
import type { Output } from "./output.ts";

export function planCommand(command: (usage: string, description: string) => Command, output: Output, positive: (text: string) => number, shared: readonly Option[]): void {
  const plans = command("plan <recipe>", "show what a recipe would need and how its schedule would go, without running it: ranks, memory, bubble")
    .option("--schedule <name|file.csv>", "1f1b, fill-drain, interleaved, zb-h1, or a file with rows of ranks or stages (default: the recipe's)")
    .option("--microbatches <n>", "in place of the recipe's", positive)
    .option("--ranks <n>", "deal the stages that learn round to so many ranks (interleaved)", positive)
    .option("--memory <bytes>", "refuse a plan that needs more on any rank; 512M, 80G are understood", bytesOf)
    .option("--profile", "measure what components cost here, on a few batches, instead of estimating it")
    .option("--cut <stages>", "cut what learns into so many stages by cost, in place of the recipe's stages", positive)
    .option("--svg <file>", "draw the simulated schedule and the memory of every rank");
  for (const option of shared) plans.addOption(option);
  plans.action(async (recipe: string, o: PlanRecipeChoice & { svg?: string }) => {
    const { checked, found } = await plan(recipe, o);
    const { name } = checked.recipe;
    output.event({ event: "plan", ...planToJson(name, found) } as { event: string });
    output.say(formatPlan(name, found));
    if (o.cut !== undefined) output.say(`\nstages:\n${found.plan.stages.map((stage) => `  ${stage.name}: [${stage.components.join(", ")}]`).join("\n")}`);
    if (o.svg === undefined) return;
    writeFileSync(o.svg, ganttSvg(name, found));
    output.say(`drawn: ${o.svg}`);
  });
}

/** "1000", "512M", "80G": K, M, G, T are powers of 1024. */
function bytesOf(text: string): number {
  const found = /^(\d+(?:\.\d+)?)([KMGT]?)$/i.exec(text);
  if (!found || Number(found[1]) === 0) throw new InvalidArgumentError("Expected bytes, like 1000000, 512M or 80G.");
  return Math.floor(Number(found[1]) * 1024 ** ["", "K", "M", "G", "T"].indexOf(found[2].toUpperCase()));
}

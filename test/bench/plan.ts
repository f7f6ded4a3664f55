/**
 * How long it takes to author, check and simulate a schedule of a large cluster. `npm run bench -- plan [--json] [--write]`
 *
 * The bar is CPU time of this process, which is its clock time on a machine that does nothing else; memory is the process's own peak.
 */
import { parseArgs } from "node:util";
import { rankAuthors } from "../../runtime/pipeline/schedule/authors.ts";
import { placeStages } from "../../runtime/pipeline/schedule/schedule.ts";
import { equalCosts, simulateRanks } from "../../runtime/pipeline/schedule/simulate.ts";
import { validateRanks } from "../../runtime/pipeline/schedule/validate.ts";
import { keep, report, reportFlags, rounded } from "./report.ts";

const { values } = parseArgs({ options: { ...reportFlags, ranks: { type: "string", default: "4096" }, microbatches: { type: "string", default: "8192" } } });
const [ranks, microbatches] = [Number(values.ranks), Number(values.microbatches)];
const plan = {
  stages: Array.from({ length: ranks }, (_, i) => ({ name: `stage${i}`, depth: i, backward: true, steps: true })),
  edges: Array.from({ length: ranks - 1 }, (_, i) => ({ from: `stage${i}`, to: `stage${i + 1}`, gradient: true, credits: ranks })),
};

const clock = performance.now(), cpu = process.cpuUsage();
const schedule = validateRanks(rankAuthors["1f1b"](placeStages(plan), microbatches));
const { bubble } = simulateRanks(schedule, equalCosts(schedule));
const { user, system } = process.cpuUsage(cpu), seconds = (user + system) / 1e6;
const entries = schedule.entries.reduce((sum, list) => sum + list.length, 0);
const bytes = process.resourceUsage().maxRSS * 1024;

const what = `plan/1f1b, ${ranks} ranks x ${microbatches} microbatches`;
report({ case: `${what}, time`, value: seconds, unit: "s CPU", bar: 10, ok: seconds < 10, clockSeconds: rounded((performance.now() - clock) / 1000), nsPerEntry: rounded((1e9 * seconds) / entries), bubble: rounded(bubble) });
report({ case: `${what}, memory`, value: bytes / 2 ** 30, unit: "GiB", bar: 2, ok: bytes < 2 * 2 ** 30 });
keep("plan", "Planning a large cluster");

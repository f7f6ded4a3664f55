/** What planning costs a run that starts: a schedule of some hundred ranks, authored, checked and simulated. The big one is the benchmark `plan`. */
import { rankAuthors } from "../../../runtime/pipeline/schedule/authors.ts";
import { placeStages } from "../../../runtime/pipeline/schedule/schedule.ts";
import { equalCosts, simulateRanks } from "../../../runtime/pipeline/schedule/simulate.ts";
import { validateRanks } from "../../../runtime/pipeline/schedule/validate.ts";
import { median, report, rounded } from "../report.ts";

const [ranks, microbatches, rounds] = [128, 512, 5];

export async function measure(): Promise<void> {
  for (const [name, stagesPerRank] of [["1f1b", 1], ["zb-h1", 1], ["interleaved", 2]] as const) {
    const numStages = ranks * stagesPerRank, stages = Array.from({ length: numStages }, (_, i) => ({ name: `stage${i}`, depth: i, backward: true, steps: true }));
    const edges = stages.slice(1).map((stage, i) => ({ from: stages[i].name, to: stage.name, gradient: true, credits: 2 }));
    const seconds: number[] = [];
    let bubble = 0;
    for (let round = 0; round < rounds; round++) {
      const begun = performance.now();
      const schedule = validateRanks(rankAuthors[name](placeStages({ stages, edges }, ranks), microbatches));
      bubble = simulateRanks(schedule, equalCosts(schedule, stagesPerRank)).bubble;
      seconds.push((performance.now() - begun) / 1000);
    }
    report({ case: `runtime/plan/${name}, ${ranks} ranks x ${microbatches} microbatches`, value: median(seconds), unit: "s", stages: numStages, bubble: rounded(bubble) });
  }
}

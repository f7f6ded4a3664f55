import assert from "node:assert/strict";
import { rankAuthorOf, rankAuthors } from "../../../runtime/pipeline/rank-authors.ts";
import { ranksFromCsv, ranksToCsv } from "../../../runtime/pipeline/rank-csv.ts";
import type { Placement, RankSchedule } from "../../../runtime/pipeline/rank-schedule.ts";
import { formatEntry, placeStages, toRunnable } from "../../../runtime/pipeline/rank-schedule.ts";
import { equalCosts, simulateRanks } from "../../../runtime/pipeline/rank-simulate.ts";
import { validateRanks } from "../../../runtime/pipeline/rank-validate.ts";
import { oneForwardOneBackward } from "../../../runtime/pipeline/schedule.ts";
import { simulate } from "../../../runtime/pipeline/simulate.ts";
import { Philox } from "../../../runtime/tensor/index.ts";
import { type Layout, refusal } from "./schedules.ts";

function chain(p: number): Layout {
  return {
    stages: Array.from({ length: p }, (_, i) => ({ name: `s${i}`, depth: i, backward: true, steps: true })),
    edges: Array.from({ length: p - 1 }, (_, i) => ({ from: `s${i}`, to: `s${i + 1}`, gradient: true, credits: p })),
  };
}

/** A loader feeds two encoders side by side and a fusion. */
const model: Layout = {
  stages: [
    { name: "pages", depth: 0, backward: false, steps: false }, { name: "image", depth: 1, backward: true, steps: true },
    { name: "text", depth: 1, backward: true, steps: true }, { name: "fusion", depth: 2, backward: true, steps: true },
  ],
  edges: [
    { from: "pages", to: "image", gradient: false, credits: 2 }, { from: "pages", to: "text", gradient: false, credits: 2 },
    { from: "image", to: "fusion", gradient: true, credits: 2 }, { from: "text", to: "fusion", gradient: true, credits: 2 },
  ],
};

/** Stage 0 is a loader; every other stage listens to at least one before it. */
function randomLayout(count: number, uniform: () => number): Layout {
  const arcs = Array.from({ length: count }, (_, to) => Array.from({ length: to }, (_, from) => from).filter(() => uniform() < 0.4)).map((from, to) => (to > 0 && from.length === 0 ? [to - 1] : from));
  const depths: number[] = [];
  for (const before of arcs) depths.push(Math.max(-1, ...before.map((from) => depths[from])) + 1);
  return {
    stages: arcs.map((_, i) => ({ name: `s${i}`, depth: depths[i], backward: i > 0, steps: i > 0 })),
    edges: arcs.flatMap((before, to) => before.map((from) => ({ from: `s${from}`, to: `s${to}`, gradient: from > 0, credits: depths[to] + 1 }))),
  };
}

const made = (name: string, layout: Layout, microbatches: number, ranks?: number): RankSchedule => validateRanks(rankAuthors[name](placeStages(layout, ranks), microbatches));
const row = (schedule: RankSchedule, rank: number): string => Array.from(schedule.entries[rank], (entry) => formatEntry(schedule, entry)).join(" ");
const near = (got: number, expected: number, what: string): void => assert.ok(Math.abs(got - expected) < 1e-9, `${what}: ${got}, expected ${expected}`);

describe("schedules of ranks", () => {
  it("split the backward under zb-h1 and hold W back by the depth", () => {
    const schedule = made("zb-h1", chain(3), 4);
    assert.equal(row(schedule, 0), "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3");
    assert.equal(row(schedule, 2), "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2W2 2W3");
  });

  it("deal stages round under interleaved, as many microbatches at a time as there are ranks", () => {
    // Megatron's warm-up: 2 (p - rank - 1) + (v - 1) p = 4 on rank 0 of 2 with two stages each
    const schedule = made("interleaved", chain(4), 4, 2);
    assert.deepEqual(schedule.stages.map((stage) => stage.rank), [0, 1, 0, 1]);
    assert.equal(row(schedule, 0), "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3");
    assert.equal(row(schedule, 1), "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3");
  });

  it("are known by name, with the nearest spelling", () => {
    assert.equal(rankAuthorOf("zb-h1"), rankAuthors["zb-h1"]);
    assert.equal(refusal(() => rankAuthorOf("zb-h2")).message, `schedule: expected 1f1b, fill-drain, interleaved, zb-h1, or the path of a .csv, found "zb-h2". Did you mean "zb-h1"?`);
  });

  it("say what does not fit: uneven stages, uneven microbatches, several stages on a rank, too large", () => {
    assert.match(refusal(() => made("interleaved", chain(5), 4, 2)).message, /expected as many stages on every rank, found 5 stages on 2 ranks. Take 6 stages/);
    assert.match(refusal(() => made("interleaved", chain(4), 5, 2)).message, /expected microbatches that its 2 ranks divide. Found 5; take 6/);
    assert.match(refusal(() => made("1f1b", chain(4), 4, 2)).message, /expected one stage per rank, found 2 on rank0. Take interleaved/);
    assert.match(refusal(() => made("1f1b", chain(2), 2 ** 29)).message, /expected at most 536870912 forwards/);
  });

  it("become what stages run, or are refused by name", () => {
    assert.deepEqual(toRunnable(made("1f1b", model, 4)), oneForwardOneBackward(model.stages, 4));
    assert.match(refusal(() => toRunnable(made("zb-h1", chain(2), 2))).message, /schedule zb-h1: running stages know F and B of one stage per process, found 0I0 on s0 \(a backward split into I and W\)/);
    assert.match(refusal(() => toRunnable(made("interleaved", chain(4), 2, 2))).message, /found 2 stages on rank0 \(interleaved\)/);
  });

  it("come back from CSV as they were", () => {
    for (const schedule of [made("zb-h1", model, 5), made("interleaved", chain(6), 4, 2)]) {
      const layout = schedule.stages.length === 4 ? model : chain(6);
      assert.deepEqual(ranksFromCsv(ranksToCsv(schedule), layout, `${schedule.name}.csv`), schedule);
    }
  });

  it("are read from CSV with empty cells for idle time, and name the line and cell that is wrong", () => {
    const schedule = validateRanks(ranksFromCsv("# by hand\n0F0,0F1,,,0B0,0B1\n,1F0,1B0,1F1,1I1,1W1\n", chain(2), "mine.csv"));
    assert.deepEqual([schedule.name, schedule.microbatches, row(schedule, 1)], ["mine", 2, "1F0 1B0 1F1 1I1 1W1"]);
    const said = (text: string): string => refusal(() => ranksFromCsv(text, chain(2), "mine.csv")).message;
    assert.equal(said("0F0,0G0\n1F0"), `mine.csv:1: expected cells like 0F0, 0B0, 0I0, 0W0 (stage, kind, microbatch) or nothing, found "0G0".`);
    assert.equal(said("0F0,2F0\n1F0"), `mine.csv:1: expected a stage from 0 to 1 (s0, s1), found "2F0".`);
    assert.equal(said("0F0,1F0\n1B0"), "mine.csv:2: expected stage 1 on one rank, found it in row 1 and row 2.");
    assert.equal(said("0F0"), "mine.csv:1: expected a row with stage 1 (s1), found none.");
  });
});

describe("the rules of schedules of ranks", () => {
  const broken: [rule: string, csv: string, said: RegExp][] = [
    ["RV-1", "0F0,0F0,0B0\n1F0,1B0", /s0, entry 2 \(0F0\): expected 0F0 once; this is the second/],
    ["RV-1", "0F0,0B0,0F1\n1F0,1B0,1F1,1B1", /s0, entry 4 \(the end\): expected 0B1, found none/],
    ["RV-1", "0F0,0B0\n1F0,1I0", /s1, entry 3 \(the end\): expected 1W0, found none/],
    ["RV-1", "0F0,0B0\n1F0,1B0,1W0", /s1, entry 3 \(1W0\): expected B, or I and W, but not both/],
    ["RV-2", "0B0,0F0\n1F0,1B0", /s0, entry 1 \(0B0\): expected 0F0 before it/],
    ["RV-2", "0F0,0W0,0I0\n1F0,1B0", /s0, entry 2 \(0W0\): expected 0I0 before it/],
  ];
  for (const [rule, csv, said] of broken) {
    it(`refuse ${csv.replace("\n", " | ")} (${rule})`, () => {
      const error = refusal(() => validateRanks(ranksFromCsv(csv, chain(2))));
      assert.match(error.message, said);
      assert.equal(error.details.rule, rule);
    });
  }

  it("refuse a stage on a rank that does not hold it, and a backward of what has none (RV-3, RV-1)", () => {
    const schedule = made("fill-drain", model, 1);
    const withEntries = (rank: number, entries: number[]): RankSchedule => ({ ...schedule, entries: schedule.entries.map((list, i) => (i === rank ? Int32Array.from(entries) : list)) });
    assert.match(refusal(() => validateRanks(withEntries(1, [4 * 2]))).message, /image, entry 1 \(1F0\): expected stages of image; text is on text \(RV-3\)/);
    assert.match(refusal(() => validateRanks(withEntries(0, [0, 1]))).message, /pages, entry 2 \(pages.B0\): expected only F in pages: no gradient comes to it \(RV-1\)/);
  });
});

describe("simulating ranks", () => {
  const bubble = (name: string, p: number, m: number, v = 1): number => {
    const schedule = made(name, chain(p * v), m, p);
    return simulateRanks(schedule, equalCosts(schedule, v)).bubble;
  };

  it("has the bubbles of the literature", () => {
    for (const [p, m] of [[1, 4], [2, 4], [4, 8], [4, 32], [8, 16]]) {
      const plain = (p - 1) / (m + p - 1);
      near(bubble("fill-drain", p, m), plain, `fill-drain p=${p} m=${m}`);
      near(bubble("1f1b", p, m), plain, `1f1b p=${p} m=${m}`);
      for (const v of [1, 2, 3]) near(bubble("interleaved", p, m, v), (p - 1) / v / (m + (p - 1) / v), `interleaved p=${p} m=${m} v=${v}`);
      // Qi et al. 2023, table 2: (p - 1)(F + I - W) against (p - 1)(F + B)
      near(bubble("zb-h1", p, m), (p - 1) / (3 * m + p - 1), `zb-h1 p=${p} m=${m}`);
    }
  });

  it("has the memory of the literature: m under fill-drain, min(p - rank, m) under 1f1b, never more than p under zb-h1", () => {
    for (const [p, m] of [[4, 8], [4, 2], [6, 12]]) {
      const peaks = (name: string): number[] => {
        const schedule = made(name, chain(p), m);
        return [...simulateRanks(schedule, equalCosts(schedule)).peakMicrobatches];
      };
      assert.deepEqual(peaks("fill-drain"), Array.from({ length: p }, () => m));
      assert.deepEqual(peaks("1f1b"), Array.from({ length: p }, (_, rank) => Math.min(p - rank, m)));
      assert.deepEqual(peaks("zb-h1"), Array.from({ length: p }, () => Math.min(p, m)));
    }
  });

  it("adds up the bytes of what is remembered, stage by stage", () => {
    const schedule = made("1f1b", chain(3), 8);
    const { peakBytes } = simulateRanks(schedule, equalCosts(schedule), { activationBytes: Float64Array.of(10, 20, 40) });
    assert.deepEqual([...peakBytes], [3 * 10, 2 * 20, 1 * 40]);
  });

  it("lets what crosses ranks arrive later, there and back", () => {
    const schedule = made("fill-drain", chain(2), 1);
    const { makespan } = simulateRanks(schedule, { ...equalCosts(schedule), transfer: Float64Array.of(5, 7) });
    assert.equal(makespan, 1 + 5 + 1 + 2 + 7 + 2);
  });

  it("agrees with the simulation of lowered schedules on random graphs of stages, and finishes under every author", () => {
    const random = new Philox(5, 0);
    for (let trial = 0; trial < 40; trial++) {
      const layout = randomLayout(2 + random.randint(0, 6), () => random.uniform()), microbatches = 1 + random.randint(0, 7);
      for (const name of Object.keys(rankAuthors)) {
        const schedule = made(name, layout, microbatches);
        const { makespan } = simulateRanks(schedule, equalCosts(schedule));
        if (name === "1f1b" || name === "fill-drain") {
          const roomy = { stages: layout.stages, edges: layout.edges.map((edge) => ({ ...edge, credits: 100 })) };
          near(makespan, simulate(toRunnable(schedule), roomy).makespan, `${name}, trial ${trial}`);
        }
      }
    }
  });

  it("shares cores: with enough of them nothing changes, on one core everything takes turns", () => {
    for (const name of Object.keys(rankAuthors)) {
      const schedule = made(name, model, 6), costs = equalCosts(schedule), ranks = [0, 1, 2, 3];
      const alone = simulateRanks(schedule, costs, { record: true });
      const roomy = simulateRanks(schedule, costs, { record: true, hosts: [{ ranks, cores: 4 }] });
      near(roomy.makespan, alone.makespan, name);
      alone.ends!.forEach((ends, rank) => ends.forEach((end, i) => near(roomy.ends![rank][i], end, `${name} rank ${rank} entry ${i}`)));
      near(simulateRanks(schedule, costs, { hosts: [{ ranks, cores: 1 }] }).makespan, 3 * 3 * 6, `${name}: three stages, 3 units, 6 microbatches, one core`);
    }
  });

  it("lets four ranks on two cores go at half speed while all of them compute", () => {
    // four stages that need nobody: each 3 units of work, two cores: 6
    const apart: Layout = { stages: chain(4).stages.map((stage) => ({ ...stage, depth: 0 })), edges: [] };
    const schedule = made("1f1b", apart, 1);
    const { makespan, busy } = simulateRanks(schedule, equalCosts(schedule), { hosts: [{ ranks: [0, 1, 2, 3], cores: 2 }] });
    assert.deepEqual([makespan, ...busy], [6, 6, 6, 6, 6]);
  });

  it("names a deadlock: rank, entry and the partner that is missing, with and without shared cores", () => {
    const schedule = validateRanks(ranksFromCsv("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1", chain(2), "mine.csv"));
    for (const hosts of [undefined, [{ ranks: [0, 1], cores: 1 }]]) {
      const error = refusal(() => simulateRanks(schedule, equalCosts(schedule), { hosts }));
      assert.deepEqual(error.message.split("\n"), [
        "schedule mine: expected every rank to finish, found a deadlock s0 -> s1 -> s0.",
        "  s0 waits at entry 2 (0B0) for 1B0 of s1", "  s1 waits at entry 2 (1F1) for 0F1 of s0",
      ]);
    }
  });

  it("plans hundreds of ranks in the time of a test, with a few bytes per entry", () => {
    const schedule = made("1f1b", chain(512), 1024), start = process.cpuUsage();
    near(simulateRanks(schedule, equalCosts(schedule)).bubble, 511 / (1024 + 511), "512 ranks");
    const seconds = process.cpuUsage(start).user / 1e6;
    assert.ok(seconds < 3, `a million entries took ${seconds} s of CPU time`);
  });
});

describe("placing stages", () => {
  it("gives loaders ranks of their own and deals the others round", () => {
    const { ranks, stages }: Placement = placeStages(model, 2);
    assert.deepEqual(ranks, ["pages", "rank0", "text"]);
    assert.deepEqual(stages.map((stage) => stage.rank), [0, 1, 2, 1]);
  });
});

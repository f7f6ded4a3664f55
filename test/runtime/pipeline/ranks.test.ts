import assert from "node:assert/strict";
import { rankAuthorOf, rankAuthors } from "../../../runtime/pipeline/schedule/authors.ts";
import { type ScheduleChoice, placeSchedule } from "../../../runtime/pipeline/plan/choice.ts";
import { ranksFromCsv, ranksToCsv } from "../../../runtime/pipeline/schedule/csv.ts";
import type { Placement, RankSchedule } from "../../../runtime/pipeline/schedule/schedule.ts";
import { waysOf } from "../../../runtime/pipeline/schedule/messages.ts";
import { formatEntry, formatRows, placeStages } from "../../../runtime/pipeline/schedule/schedule.ts";
import { equalCosts, simulateRanks } from "../../../runtime/pipeline/schedule/simulate.ts";
import { validateRanks } from "../../../runtime/pipeline/schedule/validate.ts";
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
const chooseSchedule = (plan: Layout & { microbatches: number }, choice: ScheduleChoice): RankSchedule => placeSchedule(plan, choice).schedule();
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

  it("come by name or from CSV, with as many microbatches and ranks as asked for", () => {
    const plan = { ...chain(4), microbatches: 4 }, csv = { text: ranksToCsv(made("interleaved", chain(4), 4, 2)), file: "mine.csv" };
    assert.deepEqual(chooseSchedule(plan, { schedule: "interleaved", ranks: 2 }).entries, chooseSchedule(plan, { csv }).entries);
    assert.equal(chooseSchedule(plan, { csv, ranks: 2 }).name, "mine");
    assert.match(refusal(() => chooseSchedule(plan, { csv, ranks: 4 })).message, /schedule mine: expected 4 ranks for the stages with a backward, found 2 in mine.csv. Leave the number of ranks out/);
    assert.match(refusal(() => chooseSchedule({ ...plan, microbatches: 2 }, { csv })).message, /schedule mine: expected 2 microbatches, as train.microbatches says, found 4/);
    assert.match(refusal(() => chooseSchedule(plan, { schedule: "fill-drain", ranks: 5 })).message, /expected at most 4 ranks, one for every stage with a backward, found 5/);
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

describe("a schedule by stage, from CSV", () => {
  const text = "schedule,mine,2\nimage,F0,F1,,I0,W0,B1,STEP\ntext,F0,B0,F1,B1\nfusion,F0,B0,F1,B1\n";

  it("is the schedule of ranks that says the same; a loader without a row runs ahead, one with a row as it says", () => {
    const schedule = validateRanks(ranksFromCsv(text, model)), ranked = validateRanks(ranksFromCsv("0F0,0F1,0I0,0W0,0B1\n1F0,1B0,1F1,1B1\n2F0,2B0,2F1,2B1\n", model, "mine.csv"));
    assert.deepEqual(schedule, ranked);
    assert.equal(formatRows(schedule), ["  pages   F0  F1", "  image   F0  F1  I0  W0  B1", "  text    F0  B0  F1  B1", "  fusion  F0  B0  F1  B1"].join("\n"));
    assert.equal(row(validateRanks(ranksFromCsv(`${text}pages,F1,F0\n`, model)), 0), "pages.F1 pages.F0");
  });

  it("names the line and cell that is wrong", () => {
    const said = (broken: string): string => refusal(() => ranksFromCsv(broken, model, "mine.csv")).message;
    assert.equal(said(text.replace("mine,2", "mine")), `mine.csv:1: expected a first line like schedule,1f1b,4, found "schedule,mine,".`);
    assert.equal(said(text.replace("text,", "sound,")), `mine.csv:3: expected a row of one of the stages pages, image, text, fusion, found "sound".`);
    assert.equal(said(text.replace("text,", "image,")), "mine.csv:3: expected one row for image, found a second one.");
    assert.equal(said(text.replace("text,F0,B0,F1,B1\n", "")), "mine.csv:1: expected a row for stage text, found none.");
    assert.equal(said(text.replace("text,F0", "text,SEND_F0>fusion")), `mine.csv:3: expected cells like F0, B0, I0, W0; messages follow from them, found "SEND_F0>fusion".`);
    assert.equal(said(text.replace("text,F0", "text,F2")), `mine.csv:3: expected a microbatch from 0 to 1, found "F2".`);
    assert.equal(said(text.replace("I0,W0,B1,STEP", "STEP,I0,W0,B1")), `mine.csv:2: expected cells like F0, B0, I0, W0; messages follow from them, found "STEP".`);
  });
});

describe("the messages of a schedule", () => {
  it("follow from the edges: activations along them, gradients against those that have one; W needs nobody (RL-1)", () => {
    const placement = placeStages(model), of = (stage: number) => waysOf(placement, stage);
    const said = (ways: readonly { carries: string; stage: number }[]): string[] => ways.map(({ carries, stage }) => `${carries} ${placement.stages[stage].name}`);
    assert.deepEqual(said(of(1).F.takes), ["activations pages"]);
    assert.deepEqual(said(of(1).F.gives), ["activations fusion"]);
    assert.deepEqual([said(of(1).B.takes), said(of(1).I.gives)], [["gradients fusion"], []], "a loader wants no gradient");
    assert.deepEqual([said(of(3).B.takes), said(of(3).B.gives)], [[], ["gradients image", "gradients text"]]);
    assert.deepEqual(of(1).W, { takes: [], gives: [] });
  });
});

describe("credits on paper", () => {
  /** F of the second stage takes 10, of the others 1; nothing else takes time. */
  const costs = (schedule: RankSchedule) => ({ compute: Float64Array.from(schedule.stages.flatMap((_, i) => [i === 1 ? 10 : 1, 0, 0, 0])) });
  const withCredits = (layout: Layout, credits: number): Layout => ({ ...layout, edges: layout.edges.map((edge) => ({ ...edge, credits })) });

  it("let a rank go no further ahead than its messages have credits (CR-1)", () => {
    for (const hosts of [undefined, [{ ranks: [0, 1], cores: 2 }]]) {
      const schedule = made("fill-drain", withCredits(chain(2), 1), 4);
      const { starts, makespan } = simulateRanks(schedule, costs(schedule), { credits: true, record: true, hosts });
      // the first is taken at 1; the second waits for nothing but is taken at 11; the third is computed at 3 and out at 11, so the fourth is computed then
      assert.deepEqual([...starts![0].subarray(0, 4)], [0, 1, 2, 11]);
      assert.equal(makespan, 41);
      assert.deepEqual([...simulateRanks(schedule, costs(schedule), { record: true, hosts }).starts![0].subarray(0, 4)], [0, 1, 2, 3], "without credits it runs ahead");
    }
  });

  it("cost no time under any author where edges have those of the plan, on random graphs of stages", () => {
    const random = new Philox(5, 0);
    for (let trial = 0; trial < 60; trial++) {
      const layout = randomLayout(2 + random.randint(0, 6), () => random.uniform()), microbatches = 1 + random.randint(0, 7);
      for (const name of Object.keys(rankAuthors)) {
        const schedule = made(name, layout, microbatches), free = simulateRanks(schedule, equalCosts(schedule)).makespan;
        const credited = simulateRanks(schedule, equalCosts(schedule), { credits: true }).makespan;
        if (name === "fill-drain") assert.ok(credited >= free, `${name}, trial ${trial}: ${credited} with credits, ${free} without`);
        else near(credited, free, `${name}, trial ${trial}`);
      }
    }
  });

  it("leave the bubble of interleaved and zb-h1 as it is", () => {
    for (const [p, m, v] of [[2, 4, 2], [4, 8, 2], [4, 16, 3], [8, 16, 2]]) {
      const layout = { ...chain(p * v), edges: chain(p * v).edges.map((edge) => ({ ...edge, credits: 2 })) };
      for (const schedule of [made("interleaved", layout, m, p), made("zb-h1", { stages: layout.stages.slice(0, p), edges: layout.edges.slice(0, p - 1) }, m)]) {
        const held = schedule.stages.length / p;
        near(simulateRanks(schedule, equalCosts(schedule, held), { credits: true }).bubble, simulateRanks(schedule, equalCosts(schedule, held)).bubble, `${schedule.name} p=${p} m=${m} v=${v}`);
      }
    }
  });

  it("are those of every pair of ranks where stages have copies", () => {
    const plan = { ...withCredits(chain(2), 1), microbatches: 8 }, layouts = [2, 4].map((data) => ({ data, tensor: 1, context: 1 }));
    for (const name of Object.keys(rankAuthors)) {
      const schedule = placeSchedule(plan, { schedule: name }).schedule(layouts), free = simulateRanks(schedule, equalCosts(schedule)).makespan;
      const { makespan } = simulateRanks(schedule, equalCosts(schedule), { credits: true });
      assert.deepEqual(schedule.ranks, ["s0-d0", "s0-d1", "s1-d0", "s1-d1", "s1-d2", "s1-d3"]);
      assert.ok(makespan >= free && makespan < 2 * free, `${name}: ${makespan} with credits, ${free} without`);
    }
  });

  it("can be the reason for a deadlock: a rank that wants the last message first", () => {
    const schedule = validateRanks(ranksFromCsv("0F0,0F1,0F2,0B0,0B1,0B2\n1F2,1F1,1F0,1B0,1B1,1B2\n", withCredits(chain(2), 1), "mine.csv"));
    assert.ok(simulateRanks(schedule, equalCosts(schedule)).makespan > 0, "without credits it can be");
    for (const hosts of [undefined, [{ ranks: [0, 1], cores: 1 }]]) {
      assert.deepEqual(refusal(() => simulateRanks(schedule, equalCosts(schedule), { credits: true, hosts })).message.split("\n"), [
        "schedule mine: expected every rank to finish, found a deadlock s0 -> s1 -> s0.",
        "  s0 waits at entry 3 (0F2) until s1 takes one of the 1 messages on their way to s1", "  s1 waits at entry 1 (1F2) for 0F2 of s0",
        "  s0  F0  F1  >F2<  B0  B1  B2", "  s1  F2  F1  F0    B0  B1  B2",
      ]);
    }
  });
});

describe("credits of a schedule", () => {
  it("are those of the plan where they do, and more where the schedule cannot do without", () => {
    const plan = { ...chain(4), edges: chain(4).edges.map((edge) => ({ ...edge, credits: 2 })), microbatches: 8 }, credits = (name: string, ranks?: number): number[] => chooseSchedule(plan, { schedule: name, ranks }).edges.map((edge) => edge.credits);
    for (const [name, ranks] of [["1f1b", 4], ["zb-h1", 4], ["fill-drain", 4], ["interleaved", 2]] as const) assert.deepEqual(credits(name, ranks), [2, 2, 2], name);
    // a rank that computes all of its first stage before its second must be sent everything before it takes any of it
    assert.deepEqual(credits("fill-drain", 2), [4, 8, 4]);
    assert.match(refusal(() => chooseSchedule({ ...plan, ...chain(2), microbatches: 2 }, { csv: { text: "0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1", file: "mine.csv" } })).message, /found a deadlock s0 -> s1 -> s0/);
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

  it("show the rows with the failing entry marked, and of long ones only what is near it", () => {
    assert.equal(refusal(() => validateRanks(ranksFromCsv("0F0,0B1,0F1,0B0\n1F0,1B0,1F1,1B1", chain(2)))).message.split("\n").slice(1).join("\n"), "  s0  F0  >B1<  F1  B0\n  s1  F0  B0    F1  B1");
    assert.equal(formatRows(made("fill-drain", chain(1), 20), { rank: 0, entry: 20 }), "  s0  ...  F12  F13  F14  F15  F16  F17  F18  F19  >B0<  B1  B2  B3  B4  B5  B6  B7  B8  ...");
    assert.equal(formatRows(made("interleaved", chain(2), 1, 1)), "  rank0  0F0  1F0  1B0  0B0");
  });

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

  it("takes the costs it is given, and a slow stage sets the pace", () => {
    const schedule = made("fill-drain", chain(2), 3);
    const { makespan, busy } = simulateRanks(schedule, { compute: Float64Array.of(1, 0, 0, 0, 10, 0, 0, 0) });
    assert.deepEqual([makespan, ...busy], [31, 3, 30]);
  });

  it("counts side-by-side stages as parallel", () => {
    // two levels deep although there are three computing stages: 3 units per microbatch, one level of fill and drain
    const schedule = made("1f1b", model, 4), { makespan, stageMicrobatches } = simulateRanks(schedule, equalCosts(schedule));
    assert.equal(makespan, 3 * (4 + 1));
    assert.deepEqual([...stageMicrobatches], [0, 2, 2, 1], "no loader remembers");
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
        "  s0  F0  >B0<  F1  B1", "  s1  F0  F1    B0  B1",
      ]);
      assert.deepEqual(error.details.cycle, ["s0", "s1", "s0"]);
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

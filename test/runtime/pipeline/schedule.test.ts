import assert from "node:assert/strict";
import type { Action, Schedule, ScheduleStage } from "../../../runtime/pipeline/schedule.ts";
import { authorOf, fillDrain, formatAction, formatGrid, fromCsv, lower, oneForwardOneBackward, parseAction, toCsv } from "../../../runtime/pipeline/schedule.ts";
import { simulate } from "../../../runtime/pipeline/simulate.ts";
import { validate } from "../../../runtime/pipeline/validate.ts";
import { Philox } from "../../../runtime/tensor/index.ts";
import { type Layout, refusal } from "./schedules.ts";

/** p stages in a row, all with a backward. */
function chain(p: number): Layout {
  return {
    stages: Array.from({ length: p }, (_, i) => ({ name: `s${i}`, depth: i, backward: true, steps: true })),
    edges: Array.from({ length: p - 1 }, (_, i) => ({ from: `s${i}`, to: `s${i + 1}`, gradient: true, credits: 2 })),
  };
}

/** The document model: a loader feeds two encoders and a fusion; the encoders run side by side. */
const model: Layout = {
  stages: [
    { name: "pages", depth: 0, backward: false, steps: false }, { name: "image", depth: 1, backward: true, steps: true },
    { name: "text", depth: 1, backward: true, steps: true }, { name: "fusion", depth: 2, backward: true, steps: true },
  ],
  edges: [
    { from: "pages", to: "image", gradient: false, credits: 2 }, { from: "pages", to: "text", gradient: false, credits: 2 },
    { from: "pages", to: "fusion", gradient: false, credits: 3 }, { from: "image", to: "fusion", gradient: true, credits: 2 },
    { from: "text", to: "fusion", gradient: true, credits: 2 },
  ],
};

/** Stage 0 is a loader; every other stage listens to at least one before it. Depths and credits as the plan derives them. */
function randomLayout(count: number, uniform: () => number): Layout {
  const arcs = Array.from({ length: count }, (_, to) => Array.from({ length: to }, (_, from) => from).filter((from) => uniform() < 0.4 || (from === to - 1 && uniform() < 0.7)))
    .map((from, to) => (to > 0 && from.length === 0 ? [0] : from));
  const depths: number[] = [];
  for (const before of arcs) depths.push(Math.max(-1, ...before.map((from) => depths[from])) + 1);
  return {
    stages: arcs.map((_, i) => ({ name: `s${i}`, depth: depths[i], backward: i > 0, steps: i > 0 })),
    edges: arcs.flatMap((before, to) => before.map((from) => ({ from: `s${from}`, to: `s${to}`, gradient: from > 0, credits: depths[to] - depths[from] + 1 }))),
  };
}

const row = (schedule: Schedule, stage: string): string => schedule.stages.find((s) => s.stage === stage)!.actions.map(formatAction).join(" ");

/** A schedule with one stage's row replaced by the given text. */
function withRow(schedule: Schedule, stage: string, text: string): Schedule {
  const actions = text.split(" ").map((cell) => parseAction(cell)!);
  return { ...schedule, stages: schedule.stages.map((s) => (s.stage === stage ? { stage, actions } : s)) };
}

describe("schedules", () => {
  it("fill-drain runs all forwards, then all backwards", () => {
    const schedule = fillDrain(model.stages, 3);
    assert.equal(row(schedule, "pages"), "F0 F1 F2");
    assert.equal(row(schedule, "image"), "F0 F1 F2 B0 B1 B2 STEP");
  });

  it("1f1b warms up by the stages behind and then alternates", () => {
    const schedule = oneForwardOneBackward(model.stages, 4);
    assert.equal(row(schedule, "pages"), "F0 F1 F2 F3");
    assert.equal(row(schedule, "image"), "F0 F1 B0 F2 B1 F3 B2 B3 STEP");
    assert.equal(row(schedule, "text"), row(schedule, "image"));
    assert.equal(row(schedule, "fusion"), "F0 B0 F1 B1 F2 B2 F3 B3 STEP");
  });

  it("1f1b with fewer microbatches than stages is fill-drain", () => {
    assert.equal(row(oneForwardOneBackward(chain(4).stages, 2), "s0"), row(fillDrain(chain(4).stages, 2), "s0"));
  });

  it("are lowered to receives just before, sends just after", () => {
    const lowered = lower(oneForwardOneBackward(model.stages, 2), model.edges);
    assert.equal(row(lowered, "pages"), "F0 SEND_F0>image SEND_F0>text SEND_F0>fusion F1 SEND_F1>image SEND_F1>text SEND_F1>fusion");
    assert.equal(row(lowered, "image"), "RECV_F0<pages F0 SEND_F0>fusion RECV_F1<pages F1 SEND_F1>fusion RECV_B0<fusion B0 RECV_B1<fusion B1 REDUCE STEP");
    assert.equal(row(lowered, "fusion").slice(0, 89), "RECV_F0<pages RECV_F0<image RECV_F0<text F0 B0 SEND_B0>image SEND_B0>text RECV_F1<pages R");
    assert.equal(lower(lowered, model.edges), lowered, "lowering twice changes nothing");
  });

  it("send gradients after I where the backward is split", () => {
    const split = lower(withRow(oneForwardOneBackward(chain(2).stages, 1), "s1", "F0 I0 W0 STEP"), chain(2).edges);
    assert.equal(row(split, "s1"), "RECV_F0<s0 F0 I0 SEND_B0>s0 W0 REDUCE STEP");
    assert.equal(validate(split, chain(2)), split);
  });

  it("come back from CSV as they were", () => {
    for (const schedule of [fillDrain(model.stages, 3), lower(oneForwardOneBackward(model.stages, 5), model.edges)]) {
      assert.deepEqual(fromCsv(toCsv(schedule)), schedule);
    }
    assert.deepEqual(fromCsv("# by hand\n\nschedule, mine ,2\r\ns0, F0 ,B0,,\n").stages, [{ stage: "s0", actions: [{ kind: "F", microbatch: 0 }, { kind: "B", microbatch: 0 }] }]);
  });

  it("from CSV name the line and cell that cannot be read", () => {
    assert.equal(refusal(() => fromCsv("schedule,x,2\nimage,F0,G1\n", "mine.csv")).message,
      `mine.csv:2: expected an action like F0, B0, I0, W0, SEND_F0>stage, RECV_B0<stage, REDUCE or STEP, found "G1" in the row of image.`);
    assert.equal(refusal(() => fromCsv("image,F0\n", "mine.csv")).message, `mine.csv:1: expected a first line like schedule,1f1b,4, found "image,F0".`);
  });

  it("are known by name, with the nearest spelling", () => {
    assert.equal(authorOf("fill-drain"), fillDrain);
    assert.equal(refusal(() => authorOf("1f1d")).message, `schedule: expected 1f1b or fill-drain, found "1f1d". Did you mean "1f1b"?`);
  });
});

describe("validating a schedule", () => {
  const authored = oneForwardOneBackward(model.stages, 2);

  for (const layout of [chain(1), chain(2), chain(5), model]) {
    for (const microbatches of [1, 2, 3, 8]) {
      it(`accepts what the authors make for ${layout.stages.map((s) => s.name).join(", ")} and ${microbatches} microbatches`, () => {
        for (const author of [fillDrain, oneForwardOneBackward]) {
          const schedule = author(layout.stages, microbatches);
          assert.equal(validate(schedule, layout), schedule);
          assert.doesNotThrow(() => validate(lower(schedule, layout.edges), layout));
        }
      });
    }
  }

  /** Every way to break a rule: the row of a stage, and what is said. */
  const broken: [rule: string, stage: string, actions: string, said: string][] = [
    ["V-2", "image", "F0 F0 B0 B1 STEP", "image, entry 2: expected F0 once, found it again (first at entry 1)"],
    ["V-2", "image", "F0 B0 STEP", "image, entry 4: expected F1 in image, found none"],
    ["V-2", "image", "F0 F2 B0 B1 STEP", "image, entry 2: expected a microbatch from 0 to 1, found F2"],
    ["V-3", "image", "F0 F1 B0 STEP", "image, entry 5: expected B1 in image, found none"],
    ["V-3", "image", "F0 F1 B0 I1 STEP", "image, entry 6: expected W1 in image, found none"],
    ["V-3", "image", "F0 F1 B0 I0 W0 B1 STEP", "image, entry 4: expected B0, or I0 and W0, found B0 and I0"],
    ["V-3", "pages", "F0 F1 B0", "pages, entry 3: expected only forwards: no gradient comes to pages, found B0"],
    ["V-4", "image", "F0 B1 F1 B0 STEP", "image, entry 2: expected F1 before B1, found B1 first"],
    ["V-4", "image", "F0 F1 W0 I0 B1 STEP", "image, entry 3: expected I0 before W0, found W0 first"],
    ["V-5", "image", "F0 F1 B0 STEP B1", "image, entry 5: expected B1 before STEP, found it after"],
    ["V-5", "image", "F0 F1 B0 B1", "image, entry 5: expected STEP at the end of image, found none"],
    ["V-5", "pages", "F0 F1 STEP", "pages, entry 3: expected no STEP: pages has nothing that learns, found one"],
  ];
  for (const [rule, stage, actions, said] of broken) {
    it(`refuses ${actions} in ${stage} (${rule})`, () => {
      const error = refusal(() => validate(withRow(authored, stage, actions), model));
      assert.equal(error.message.split("\n")[0], `schedule 1f1b, ${said} (${rule}).`);
      assert.equal(error.details.rule, rule);
    });
  }

  it("shows the grid with the failing entry marked", () => {
    assert.equal(refusal(() => validate(withRow(authored, "image", "F0 B1 F1 B0 STEP"), model)).message.split("\n").slice(1).join("\n"), [
      "  pages   F0  F1",
      "  image   F0  >B1<  F1  B0  STEP",
      "  text    F0  F1    B0  B1  STEP",
      "  fusion  F0  B0    F1  B1  STEP",
    ].join("\n"));
  });

  it("refuses a stage without a row, a row without a stage, two rows of one stage (V-1)", () => {
    assert.match(refusal(() => validate({ ...authored, stages: authored.stages.slice(1) }, model)).message, /expected a row for stage pages, found none \(V-1\)/);
    assert.match(refusal(() => validate({ ...authored, stages: [...authored.stages, { stage: "sound", actions: [] }] }, model)).message, /expected a row of one of the stages pages, image, text, fusion, found "sound" \(V-1\)/);
    assert.match(refusal(() => validate({ ...authored, stages: [...authored.stages, authored.stages[1]] }, model)).message, /expected one row for stage image, found two \(V-1\)/);
  });

  it("refuses messages that do not match, come too late, or go where no edge is (V-6)", () => {
    const { stages, edges } = chain(2);
    const layout = { stages, edges };
    const good = lower(fillDrain(stages, 2), edges);
    const s1 = "RECV_F0<s0 F0 RECV_F1<s0 F1 B0 SEND_B0>s0 B1 SEND_B1>s0 REDUCE STEP";
    assert.equal(row(good, "s1"), s1);
    const said = (text: string): string => refusal(() => validate(withRow(good, "s1", text), layout)).message.split("\n")[0];
    assert.match(said(s1.replace("RECV_F0<s0 F0 RECV_F1<s0", "RECV_F1<s0 F0 RECV_F0<s0")), /s1 to receive microbatch 0 as message 1 from s0, as it was sent, found RECV_F1<s0 \(V-6\)/);
    assert.match(said(s1.replace(" RECV_F1<s0", "")), /expected s1 to receive activations 2 times from s0, found 1/);
    assert.match(said(s1.replace("B0 SEND_B0>s0", "SEND_B0>s0 B0")), /expected SEND_B0>s0 after B0, found it before/);
    assert.match(said(s1.replace("RECV_F0<s0 F0", "F0 RECV_F0<s0")), /expected RECV_F0<s0 before F0, found it after/);
    assert.match(said(s1.replace("B1 SEND_B1>s0", "B1 SEND_B1>s0 SEND_F1>s0")), /expected messages along edges of the plan, found SEND_F1>s0, though s1 gives nothing to s0/);
  });

  it("shows only what is near the failing entry in a long row", () => {
    const long = fillDrain(chain(1).stages, 20);
    assert.equal(formatGrid(long, { stage: "s0", entry: 20 }), "  s0  ...  F12  F13  F14  F15  F16  F17  F18  F19  >B0<  B1  B2  B3  B4  B5  B6  B7  B8  ...");
  });
});

describe("simulating a schedule", () => {
  it("has the bubble of the literature: (p - 1) / (m + p - 1) for both authors on a chain of p stages", () => {
    for (const [p, m] of [[1, 4], [2, 4], [4, 4], [4, 16]]) {
      for (const author of [fillDrain, oneForwardOneBackward]) {
        const { bubble, makespan } = simulate(author(chain(p).stages, m), chain(p));
        assert.ok(Math.abs(bubble - (p - 1) / (m + p - 1)) < 1e-12, `${author(chain(p).stages, m).name} p=${p} m=${m}: ${bubble}`);
        assert.equal(makespan, 3 * (m + p - 1));
      }
    }
  });

  it("has the memory of the literature: m microbatches alive under fill-drain, at most the stages left under 1f1b", () => {
    assert.deepEqual(simulate(fillDrain(chain(3).stages, 8), chain(3)).peakActivations, { s0: 8, s1: 8, s2: 8 });
    assert.deepEqual(simulate(oneForwardOneBackward(chain(3).stages, 8), chain(3)).peakActivations, { s0: 3, s1: 2, s2: 1 });
    assert.deepEqual(simulate(oneForwardOneBackward(model.stages, 8), model).peakActivations, { pages: 0, image: 2, text: 2, fusion: 1 });
  });

  it("counts side-by-side stages as parallel", () => {
    // two levels deep although there are three computing stages: 3 units per microbatch, one level of fill and drain
    assert.equal(simulate(oneForwardOneBackward(model.stages, 4), model).makespan, 3 * (4 + 1));
  });

  it("takes the costs it is given, and a slow stage sets the pace", () => {
    const costs = (stage: ScheduleStage, kind: Action["kind"]): number => (kind === "F" ? (stage.name === "s1" ? 10 : 1) : 0);
    const { makespan, busy } = simulate(fillDrain(chain(2).stages, 3), chain(2), costs);
    assert.deepEqual([makespan, busy], [31, { s0: 3, s1: 30 }]);
  });

  it("lets a sender go no further ahead than its credits", () => {
    const layout = { ...chain(2), edges: [{ from: "s0", to: "s1", gradient: true, credits: 1 }] };
    const costs = (stage: ScheduleStage, kind: Action["kind"]): number => (kind === "F" ? (stage.name === "s1" ? 10 : 1) : 0);
    const sends = simulate(fillDrain(layout.stages, 3), layout, costs).timeline.filter((t) => t.action.kind === "SEND" && t.stage === "s0").map((t) => t.start);
    assert.deepEqual(sends, [1, 2, 11], "the third waits until s1, done with the first, takes the second");
  });

  it("finds no deadlock in what the authors make, on 60 random graphs of stages", () => {
    const random = new Philox(11, 0);
    for (let trial = 0; trial < 60; trial++) {
      const layout = randomLayout(2 + random.randint(0, 6), () => random.uniform());
      for (const author of [fillDrain, oneForwardOneBackward]) {
        const schedule = author(layout.stages, 1 + random.randint(0, 6));
        const { bubble } = simulate(validate(lower(schedule, layout.edges), layout), layout);
        assert.ok(bubble >= 0 && bubble < 1, `bubble ${bubble}`);
      }
    }
  });

  it("names a deadlock, and everybody who waits in it", () => {
    // s0 wants the gradient of microbatch 0 before it sends microbatch 1; s1 wants both activations before any backward
    const { stages, edges } = chain(2);
    const schedule = withRow(withRow(fillDrain(stages, 2), "s0", "F0 B0 F1 B1 STEP"), "s1", "F0 F1 B0 B1 STEP");
    assert.doesNotThrow(() => validate(schedule, { stages, edges }), "the rules alone do not see it");
    const error = refusal(() => simulate(schedule, { stages, edges }));
    assert.deepEqual(error.message.split("\n").slice(0, 3), [
      "schedule fill-drain: expected every stage to finish, found a deadlock s0 -> s1 -> s0.",
      "  s0 waits at entry 3 (RECV_B0<s1) for the gradients of microbatch 0 from s1",
      "  s1 waits at entry 3 (RECV_F1<s0) for the activations of microbatch 1 from s0",
    ]);
    assert.deepEqual(error.details.cycle, ["s0", "s1", "s0"]);
  });
});

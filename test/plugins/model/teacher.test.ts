import assert from "node:assert/strict";
import { fromArray, materialise } from "../../../runtime/index.ts";
import { stubClip } from "../../../plugins/teacher/stub-clip.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context } from "./harness.ts";

describe("teacher/stub-clip", () => {
  const options = { image: 8, patch: 4, width: 8, heads: 2, targets: 6 };
  // A page in [0, 1], and how each network likes it: mean and deviation per channel.
  const page = fill("page", [3 * 64], 0.5, 0.5);
  const normalised = (mean: number[], deviation: number[]) => page.map((v, i) => (v - mean[Math.floor(i / 64)]) / deviation[Math.floor(i / 64)]);
  const forStudent = normalised([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
  const forTeacher = normalised([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]);

  const targetsOf = async (pixels: Float64Array, o: { seed?: number; pixels?: string } = {}, runSeed = 1) => {
    const teacher = build(stubClip, { ...options, ...o });
    materialise(teacher.parameters(), { seed: runSeed, prefix: "", dtype: "f64" });
    return (await compute(() => teacher.forward({ pixels: fromArray(pixels, [1, 3, 8, 8], "f64") }, context()), teacher)).targets;
  };

  it("TE-1 is the same in every run, and another with another seed of its own", async () => {
    const targets = await targetsOf(forStudent);
    assert.deepEqual(await targetsOf(forStudent, {}, 2), targets);
    assert.notDeepEqual(await targetsOf(forStudent, { seed: 1 }), targets);
  });

  it("TE-2 is frozen and has nothing to train", () => {
    const teacher = build(stubClip, options);
    assert.equal(teacher.frozen, true);
    assert.deepEqual(Object.entries(teacher.parameters()).filter(([, parameter]) => parameter.trainable), []);
    assert.equal(stubClip.ports(stubClip.options.parse(options)).out.targets.gradient, false);
  });

  it("sees the student's pixels in its own normalisation, clamped to what an image can be", async () => {
    const expected = await targetsOf(forTeacher, { pixels: "none" });
    assertClose(await targetsOf(forStudent), expected, 1e-9, "targets");
    const white = normalisedConstant(1), brighterThanWhite = normalisedConstant(1.5);
    assertClose(await targetsOf(brighterThanWhite), await targetsOf(white), 1e-9, "clamped");
  });

  it("gives different patches different targets", async () => {
    const targets = await targetsOf(forStudent);
    const unit = (p: number) => { const t = targets.slice(p * 6, p * 6 + 6); return t.map((v) => v / Math.hypot(...t)); };
    for (let a = 0; a < 4; a++) {
      for (let b = 0; b < a; b++) {
        const cosine = unit(a).reduce((total, v, i) => total + v * unit(b)[i], 0);
        assert.ok(cosine < 0.999, `patches ${a} and ${b} have the cosine ${cosine}`);
      }
    }
  });

  /** A page of one brightness, as the student sees it. */
  function normalisedConstant(value: number): Float64Array {
    return Float64Array.from({ length: 192 }, (_, i) => (value - [0.485, 0.456, 0.406][Math.floor(i / 64)]) / [0.229, 0.224, 0.225][Math.floor(i / 64)]);
  }
});

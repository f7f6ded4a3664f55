import assert from "node:assert/strict";
import { Philox } from "../../../runtime/tensor/philox.ts";
import { bestAllowed } from "../../../runtime/trainer/answer-grammar.ts";
import { drawFor, drawToken, logSumExp, mostLikely } from "../../../runtime/trainer/token-choice.ts";

const logits = [0.3, -1.2, 2.1, 0.9, 5, -0.4, 1.7, 0.9];
/** Id 4, the most likely, is forbidden. */
const ranges = [[0, 4], [5, 8]] as const;
const all = { temperature: 1, topK: Infinity, topP: 1 };

/** Shares of the ids that are left, by their weights. */
function shares(temperature: number, left: readonly number[]): Map<number, number> {
  const weights = left.map((id) => Math.exp(logits[id] / temperature)), total = weights.reduce((sum, w) => sum + w, 0);
  return new Map(left.map((id, i) => [id, weights[i] / total]));
}

describe("drawing a token", () => {
  // 99.9 % points of chi-square for 6, 3 and 2 degrees of freedom.
  for (const [name, o, left, critical] of [
    ["all of the allowed", all, [0, 1, 2, 3, 5, 6, 7], 22.46],
    ["temperature 2.5", { ...all, temperature: 2.5 }, [0, 1, 2, 3, 5, 6, 7], 22.46],
    ["top 4", { ...all, topK: 4 }, [2, 3, 6, 7], 16.27],
    ["top 5, then 0.8 of it", { temperature: 0.8, topK: 5, topP: 0.8 }, [2, 6, 3], 13.82],
  ] as const) {
    it(`follows the distribution of ${name}`, () => {
      const draws = 40_000, counts = new Map<number, number>();
      for (let sample = 0; sample < draws; sample++) {
        const id = drawToken(logits, ranges, o, drawFor(7, sample, sample % 5));
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      assert.deepEqual([...counts.keys()].sort(), [...left].sort());
      const chiSquare = [...shares(o.temperature, left)].reduce((sum, [id, share]) => sum + (counts.get(id)! - draws * share) ** 2 / (draws * share), 0);
      assert.ok(chiSquare < critical, `chi-square ${chiSquare}, critical ${critical}`);
    });
  }

  it("with one token left, by top-k or top-p, is greedy", () => {
    const draw = new Philox(1, 1);
    for (let i = 0; i < 200; i++) {
      const u = draw.uniform();
      assert.equal(drawToken(logits, ranges, { ...all, topK: 1 }, u), bestAllowed(logits, ranges));
      assert.equal(drawToken(logits, ranges, { ...all, topP: 1e-9 }, u), bestAllowed(logits, ranges));
      assert.equal(drawToken(logits, ranges, { ...all, temperature: 1e-6 }, u), bestAllowed(logits, ranges));
    }
  });

  it("top-p keeps as few tokens as reach the share, and the one that reaches it exactly", () => {
    const quarters = [0, 0, 0, 0];
    const seen = (topP: number) => new Set(Array.from({ length: 400 }, (_, i) => drawToken(quarters, [[0, 4]], { ...all, topP }, i / 400)));
    assert.deepEqual(seen(0.25), new Set([0]));
    assert.deepEqual(seen(0.26), new Set([0, 1]));
    assert.deepEqual(seen(0.75), new Set([0, 1, 2]));
    assert.deepEqual(seen(1), new Set([0, 1, 2, 3]));
  });

  it("top-k beyond the vocabulary leaves everything", () => {
    for (const u of [0, 0.2, 0.5, 0.77, 0.999999999]) assert.ok(shares(1, [0, 1, 2, 3, 5, 6, 7]).has(drawToken(logits, ranges, { ...all, topK: 1000 }, u)));
    const seen = new Set(Array.from({ length: 5000 }, (_, i) => drawToken(logits, ranges, { ...all, topK: 1000 }, i / 5000)));
    assert.equal(seen.size, 7);
  });

  it("gives a token also where all that is allowed is impossible, and none where nothing is allowed", () => {
    assert.equal(drawToken([-Infinity, -Infinity, 1], [[0, 2]], all, 0.1), 0);
    assert.equal(drawToken([0, 0], [], all, 0.5), -1);
    assert.equal(drawToken([1, -Infinity], [[0, 2]], all, 1 - 2 ** -53), 0);
  });

  it("draws by seed, sample and number of the token (TC-1)", () => {
    // Philox4x32-10, counter (0, 0, 0, 0x67656e), key 0, and two others: unlike one another, and the same each time.
    const draws = [drawFor(0, 0, 0), drawFor(1, 0, 0), drawFor(0, 1, 0), drawFor(0, 0, 1)];
    assert.equal(new Set(draws).size, 4);
    assert.deepEqual([drawFor(0, 0, 0), drawFor(1, 0, 0), drawFor(0, 1, 0), drawFor(0, 0, 1)], draws);
    for (const u of draws) assert.ok(u >= 0 && u < 1);
  });
});

describe("the most likely tokens", () => {
  it("come first, of equals the lower id, also when there are many", () => {
    assert.deepEqual(mostLikely(logits, ranges, 4), [2, 6, 3, 7]);
    assert.deepEqual(mostLikely(logits, ranges, 99), [2, 6, 3, 7, 0, 5, 1]);
    const draw = new Philox(3, 3), many = Array.from({ length: 300 }, () => draw.randint(0, 40));
    const sorted = many.map((_, id) => id).sort((a, b) => many[b] - many[a] || a - b);
    for (const count of [1, 7, 64, 65, 300]) assert.deepEqual(mostLikely(many, [[0, 300]], count), sorted.slice(0, count));
  });

  it("log-sum-exp neither overflows nor counts what is not allowed", () => {
    assert.ok(Math.abs(logSumExp([1000, 1000]) - (1000 + Math.log(2))) < 1e-9);
    assert.ok(Math.abs(logSumExp(logits, [[4, 5]]) - 5) < 1e-12);
    assert.equal(logSumExp([-Infinity, -Infinity]), -Infinity);
  });
});

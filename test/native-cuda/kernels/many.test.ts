import assert from "node:assert/strict";
import { firstDifference, noise, rounded, run, single, type Operand } from "../device.ts";
import { close, refuses } from "../harness.ts";

const update = (o: Operand): Operand => ({ ...o, update: true });

const numbers = (...values: number[]): Operand[] => [{ shape: [values.length], data: Float64Array.from(values) }];
/** An optimizer's kernels: operands of one parameter (the second is read only), scalars of one call, of many, and what follows the operands of many. */
const rules = {
  adamw: { operands: 4, single: (decay: number) => [0.01, 0.9, 0.98, 1e-8, decay, 3, 0.3], many: (decays: number[]) => [0.9, 0.98, 1e-8, ...decays], tail: numbers(0.01, 3, 0.3) },
  sgd: { operands: 3, single: (decay: number) => [0.1, 0.9, decay, 0.3], many: (decays: number[]) => [0.9, ...decays], tail: numbers(0.1, 3, 0.3) },
  ema: { operands: 2, single: () => [0.99], many: () => [0.99], tail: [] },
};
const sizes = [[3, 5], [0], [1], [131073], [17, 3]];

for (const [name, rule] of Object.entries(rules)) {
  describe(`${name} and ${name}_many`, () => {
    const operandsOf = (shape: number[], seed: number, convert: (o: Operand) => Operand) => Array.from({ length: rule.operands }, (_, i) => {
      const o = noise(shape, seed + i);
      return convert({ shape, data: i === 3 ? o.data.map(Math.abs) : o.data }); // a second moment is positive
    });
    const touched = (operands: Operand[]) => operands.map((o, i) => (i === 1 ? o : update(o)));
    const decay = (i: number) => 0.05 * i;

    for (const shape of sizes) {
      it(`(${shape}) agrees with f64, and has the same bits on 1, 2 and 4 threads`, async () => {
        const truth = await run(name, touched(operandsOf(shape, 1, rounded)), rule.single(0.05));
        const fast = await run(name, touched(operandsOf(shape, 1, single)), rule.single(0.05), { threads: 1 });
        const plain = await run(name, touched(operandsOf(shape, 1, single)), rule.single(0.05), { kernels: "reference" });
        truth.forEach((t, i) => { close(fast[i], t, 2e-6); close(plain[i], t, 2e-6); });
        for (const threads of [2, 4]) {
          const again = await run(name, touched(operandsOf(shape, 1, single)), rule.single(0.05), { threads });
          again.forEach((a, i) => assert.equal(firstDifference(a, fast[i]), -1, `${threads} threads`));
        }
      });
    }

    for (const [title, convert, settings] of [["f32", single, { threads: 1 }], ["f32 on 4 threads", single, { threads: 4 }], ["f32 reference", single, { kernels: "reference" }], ["f64", rounded, {}]] as const) {
      it(`many parameters in one call get the bits of a call each, in ${title}`, async () => {
        const chosen = sizes.slice(0, Math.min(sizes.length, Math.floor(16 / rule.operands)));
        const alone: Awaited<ReturnType<typeof run>> = [];
        for (const [i, shape] of chosen.entries()) alone.push(...await run(name, touched(operandsOf(shape, 10 * i, convert)), rule.single(decay(i)), settings));
        const operands = [...chosen.flatMap((shape, i) => touched(operandsOf(shape, 10 * i, convert))), ...rule.tail];
        const together = await run(`${name}_many`, operands, rule.many(chosen.map((_, i) => decay(i))), settings);
        assert.equal(together.length, alone.length);
        together.forEach((t, i) => assert.equal(firstDifference(t, alone[i]), -1, `tensor ${i}`));
      });
    }

    it("names the tensor that does not fit", async () => {
      const operands: Operand[] = [...touched(operandsOf([2], 1, rounded)), ...touched(operandsOf([3], 2, rounded))];
      operands[rule.operands + 1] = noise([4], 3);
      const scalars = rule.many([0, 0]);
      await refuses(run(`${name}_many`, [...operands, ...rule.tail], scalars), new RegExp(`${name}_many: [gp]2 expected f64 \\(3\\) as [pe]2, got f64 \\(4\\)`));
      const more = rule.tail.length > 0 ? " and numbers" : "";
      await refuses(run(`${name}_many`, [...operands.slice(1), ...rule.tail], scalars), new RegExp(`${name}_many: expected a multiple of ${rule.operands} tensors${more}, got ${2 * rule.operands - 1 + rule.tail.length}`));
    });

    if (rule.tail.length > 0) it("refuses numbers that are none, and a step before the first", async () => {
      const operands = touched(operandsOf([2], 1, rounded)), many = (...tail: Operand[]) => run(`${name}_many`, [...operands, ...tail], rule.many([0]));
      await refuses(many(...numbers(1, 2)), new RegExp(`${name}_many: numbers expected 3 elements`));
      await refuses(many(single(numbers(1, 2, 3)[0])), new RegExp(`${name}_many: numbers expected f64`));
      await refuses(many(...numbers(0.1, 0, 1)), new RegExp(`${name}_many: numbers: step expected 1 or more, got 0`));
    });
  });
}

describe("sgd and ema", () => {
  const one = (...values: number[]) => ({ shape: [values.length], data: Float64Array.from(values) });

  it("sgd decays, gathers momentum, and moves", async () => { // p = 1 - 0.1 * 0.5 * 1; m = 0.9 * 2 + 0.5 * 4; p -= 0.1 * m
    const [p, m] = await run("sgd", [update(one(1)), one(4), update(one(2))], [0.1, 0.9, 0.5, 0.5]);
    close([p[0], m[0]], [0.95 - 0.38, 3.8], 1e-12);
  });

  it("ema keeps its decay and takes the rest; a decay above 1 is refused", async () => {
    close((await run("ema", [update(one(1)), one(3)], [0.75]))[0], [1.5], 1e-12);
    await refuses(run("ema", [update(one(1)), one(3)], [1.5]), /ema: decay expected within \[0, 1\], got 1.5/);
  });
});

import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { noise, run, single } from "./device.ts";

const x = single(noise([2, 3], 1)), scale = (): Promise<unknown> => run("scale", [x, { out: [2, 3] }], [2]);

describe("timings", () => {
  afterEach(async () => {
    await native().fence();
    native().timings(false);
  });

  it("count calls and bytes per kernel and operand shapes, and are empty after they were read", async () => {
    native().timings(true);
    await scale();
    await scale();
    await native().fence();
    const rows = native().timings(true);
    assert.deepEqual(rows.map(({ kernel, operands, calls, bytes }) => ({ kernel, operands, calls, bytes })), [{ kernel: "scale", operands: "f32 (2, 3), f32 (2, 3)", calls: 2, bytes: 2 * 2 * 24 }]);
    assert.ok(rows[0].milliseconds > 0 && rows[0].cpu > 0, `${rows[0].milliseconds} ms, ${rows[0].cpu} ms of CPU`);
    assert.deepEqual(native().timings(true), []);
  });

  it("write nothing when they are off", async () => {
    native().timings(false);
    await scale();
    await native().fence();
    assert.deepEqual(native().timings(false), []);
  });
});

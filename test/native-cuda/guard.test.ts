// The guard against NaN and infinity (device/guard.h): what it reports, and what it lets pass.
import assert from "node:assert/strict";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";
import { bf16Bits, dtypeOf, type Numbers } from "./device.ts";

const guarded = (on: boolean): void => native().configure({ guard: on, threads: 2, kernels: "fast" });

/** Uploads, launches and waits with the guard on; gives the fault's details, or undefined. Operands: arrays in, shapes out. */
async function fault(name: string, operands: readonly (readonly [readonly number[], Numbers] | readonly number[] | undefined)[], scalars: readonly number[] = []): Promise<{ op: string; sequence: number; message: string } | undefined> {
  const device = native(), isInput = (o: typeof operands[number]): o is readonly [readonly number[], Numbers] => o !== undefined && Array.isArray(o[0]);
  await device.fence();
  guarded(true);
  const handles = operands.map((o) => (o === undefined ? 0 : isInput(o) ? device.allocate(dtypeOf(o[1]), o[0]) : device.allocate(1, o)));
  operands.forEach((o, i) => isInput(o) && device.upload(handles[i], o[1]));
  device.launch(device.kernel(name), handles, scalars);
  const thrown = await device.fence().then(() => undefined, (error: Error & { code: string; details: { op: string; sequence: number; message: string } }) => error);
  guarded(false);
  handles.forEach((handle) => handle && device.free(handle));
  if (thrown) assert.equal(thrown.code, "ERR_DEVICE");
  return thrown?.details;
}

const f32 = (...values: number[]) => Float32Array.from(values);
const says = async (subject: ReturnType<typeof fault>, op: string, message: string): Promise<void> => {
  const details = await subject;
  assert.deepEqual({ op: details?.op, message: details?.message }, { op, message });
  assert.ok(details!.sequence > 0);
};

describe("the guard", () => {
  const at = (count: number, where: number, value: number) => Float32Array.from({ length: count }, (_, i) => (i === where ? value : 1));

  it("names kernel, operand, position and value of the first NaN of finite inputs", async () => {
    await says(fault("sqrt_forward", [[[2, 20], at(40, 37, -1)], [2, 20]]), "sqrt_forward", "y[1, 17] is NaN; its inputs were finite");
    await says(fault("mul", [[[3], f32(1, 3e38, 1)], [[3], f32(1, 10, 1)], [3]]), "mul", "y[1] is Infinity; its inputs were finite");
    await says(fault("matmul", [[[1, 2], f32(3e38, 3e38)], [[2, 1], f32(-1, -1)], [1, 1]], [0, 0]), "matmul", "y[0, 0] is -Infinity; its inputs were finite");
  });

  it("finds it in f64 and bf16, and far behind in a large tensor", async () => {
    await says(fault("scale", [[[2], Float64Array.of(1, 1e308)], [[2], Float64Array.of(0, 0)]], [100]), "scale", "y[1] is Infinity; its inputs were finite");
    await says(fault("scale", [[[2], bf16Bits([3e38, 1])], [[2], bf16Bits([0, 0])]], [2]), "scale", "y[0] is Infinity; its inputs were finite");
    await says(fault("sqrt_forward", [[[1000, 401], at(401000, 400999, -1)], [1000, 401]]), "sqrt_forward", "y[999, 400] is NaN; its inputs were finite");
  });

  it("calls an upload that is not finite by what it is", async () => {
    await says(fault("scale", [[[2, 2], f32(1, 2, NaN, 4)], [2, 2]], [1]), "upload", "element [1, 0] of f32 (2, 2) is NaN; it came from outside by upload");
    await says(fault("scale", [[[1], f32(Infinity)], [1]], [1]), "upload", "element [0] of f32 (1) is Infinity; it came from outside by upload");
  });

  it("lets -Infinity through where it has a meaning: uploaded masks and what they add to, fill, sums of nothing, queries without a key", async () => {
    const mask = f32(0, -Infinity, 0);
    assert.equal(await fault("add", [[[3], f32(1, 2, 3)], [[3], mask], [3]]), undefined);
    assert.equal(await fault("softmax_forward", [[[1, 3], mask], [1, 3]]), undefined);
    assert.equal(await fault("fill", [[2]], [-Infinity]), undefined);
    assert.equal(await fault("logsumexp_forward", [[[2, 0], f32()], [2]]), undefined);
    const q = [[1, 1, 2], f32(1, 2)] as const;
    assert.equal(await fault("attention_forward", [q, q, q, [[1, 1], Uint8Array.of(0)], undefined, [1, 1, 2], [1, 1, 1]], [1, 1, 0, 0, 0, 1]), undefined);
  });

  it("reports what -Infinity turns into, and -Infinity of finite numbers", async () => {
    await says(fault("softmax_forward", [[[1, 2], f32(-Infinity, -Infinity)], [1, 2]]), "softmax_forward", "y[0, 0] is NaN; x was not finite before, at [0, 0], where it held -Infinity");
    await says(fault("log_forward", [[[2], f32(1, 0)], [2]]), "log_forward", "y[1] is -Infinity; its inputs were finite");
    await says(fault("fill", [[2]], [NaN]), "fill", "y[0] is NaN; scalar 0 is NaN");
  });

  it("raises no alarm for memory that was never written, or for what was there before it was on", async () => {
    const device = native();
    guarded(false);
    const before = device.allocate(1, [64]), spoilt = f32(...Array<number>(64).fill(NaN));
    device.upload(before, spoilt);
    await device.fence();
    guarded(true);
    const y = device.allocate(1, [64]), fresh = Array.from({ length: 20 }, () => device.allocate(1, [64]));
    device.launch(device.kernel("copy"), [fresh[7], y], []);
    await device.fence();
    device.launch(device.kernel("copy"), [before, y], []);
    await assert.rejects(device.fence(), /copy failed on the cpu stream at command \d+: y\[0\] is NaN; x was not finite before, at \[0\]: it was computed before the guard was on/);
    guarded(false);
    [before, y, ...fresh].forEach((handle) => device.free(handle));
  });

  it("watches the kernels of a replay, in scratch that others wrote before", async () => {
    const device = native(), run = (kernel: string, handles: number[]) => device.launch(device.kernel(kernel), handles, []);
    guarded(true);
    const x = device.allocate(1, [3]);
    device.upload(x, f32(4, 9, 16));
    device.recordBegin([x]);
    const root = device.allocate(1, [3]), y = device.allocate(1, [3]);
    run("sqrt_forward", [x, root]);
    run("log_forward", [root, y]);
    device.free(root);
    const program = device.recordEnd([y]);
    const [sound] = device.replay(program, [x]);
    assert.ok(Math.abs(new Float32Array(await device.read(sound))[0] - Math.log(2)) < 1e-6);
    device.upload(x, f32(1, -1, 1));
    const [spoilt] = device.replay(program, [x]);
    await assert.rejects(device.fence(), /sqrt_forward failed on the cpu stream at command \d+: y\[1\] is NaN; its inputs were finite/);
    guarded(false);
    device.programDrop(program);
    [x, y, sound, spoilt].forEach((handle) => device.free(handle));
  });

  it("looks at what the host gives to a replay", async () => {
    const device = native();
    guarded(true);
    const x = device.allocate(1, [3]);
    device.upload(x, f32(1, 2, 3));
    device.recordBegin([x]);
    const y = device.allocate(1, [3]);
    device.launch(device.kernel("copy"), [x, y], []);
    const program = device.recordEnd([y]);
    const [spoilt] = device.replay(program, [f32(1, NaN, 1)]);
    await assert.rejects(device.fence(), /replay failed on the cpu stream at command \d+: element \[1\] of f32 \(3\) is NaN; it came from outside by replay/);
    guarded(false);
    device.programDrop(program);
    [x, y, spoilt].forEach((handle) => device.free(handle));
  });

  it("stops the stream at the first fault and is off unless asked for", async () => {
    const { output } = await child(`
      const [x, y] = [device.allocate(1, [2]), device.allocate(1, [2])];
      device.upload(x, Float32Array.of(-1, 1));
      device.launch(device.kernel("sqrt_forward"), [x, y], []);
      device.launch(device.kernel("log_forward"), [x, y], []);
      await device.fence().then(() => console.log("nothing"), (error) => console.log(error.message));`, [], { OCTAVO_GUARD: "1" }).exited;
    assert.match(output, /^sqrt_forward failed on the cpu stream at command \d+: y\[0\] is NaN; its inputs were finite$/m);
    const refused = await child("", [], { OCTAVO_GUARD: "yes" }).exited;
    assert.match(refused.output, /OCTAVO_GUARD expected 1 or 0, got "yes"/);
  });
});

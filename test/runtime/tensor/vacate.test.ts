import assert from "node:assert/strict";
import { type Tensor, fromArray, memory, viewOf } from "../../../runtime/tensor/index.ts";

describe("a vacated tensor", () => {
  it("has no memory, says so, and has some again after refill; its views with it", async () => {
    const tensor = fromArray(new Float32Array(1024).fill(1), [1024]), view = viewOf(tensor, [32, 32]), before = memory().bytesInUse;
    tensor.vacate();
    assert.equal(before - memory().bytesInUse, 4096);
    assert.throws(() => zeroed(tensor), { code: "ERR_HANDLE", message: /whose memory was given back for the time being/ });
    assert.throws(() => zeroed(view), { code: "ERR_HANDLE" });
    assert.throws(() => tensor.vacate(), { code: "ERR_HANDLE" });
    tensor.refill();
    assert.throws(() => tensor.refill(), { code: "ERR_HANDLE", message: /only a vacated one is refilled/ });
    tensor.write(new Float32Array(1024).fill(2));
    assert.equal((await view.readNumbers())[1023], 2);
    view.dispose();
    tensor.vacate();
    tensor.dispose();
    assert.equal(before - memory().bytesInUse, 4096, "a vacated tensor is freed without its memory being given back twice");
  });

  const zeroed = (tensor: Tensor): void => tensor.write(new Float32Array(tensor.size));
});

import assert from "node:assert/strict";
import { optimizers } from "../../../plugins/optimizer/index.ts";
import { type OptimizerComponent, createHost, createRegistry, nn, zeros } from "../../../runtime/index.ts";

describe("optimizer/adamw", () => {
  const host = createHost(createRegistry(optimizers), { folder: ".", seed: 1 });
  const build = (options: unknown) => host.build<OptimizerComponent>("optimizer/adamw", options, "optimizer");

  it("gives the learning rate of each step from its options", () => {
    const component = build({ lr: 1e-3, warmup: 11, final: 1e-5 });
    assert.deepEqual([0, 5, 10].map((step) => component.learningRate(step, 50)), [0, 5e-4, 1e-3]);
    assert.ok(component.learningRate(49, 50) < 2e-5);
  });

  it("shortens a warm-up that is longer than the run", () => {
    assert.equal(build({ lr: 1, warmup: 100 }).learningRate(4, 5), 1);
  });

  it("makes optimizers with the weight decay asked for", async () => {
    const optimizer = build({ weight_decay: 0.5, warmup: 0 }).create();
    const parameter = new nn.Parameter([1, 1], { kind: "ones" }, { decay: true });
    nn.materialise({ w: parameter }, { seed: 0, prefix: "" });
    const gradient = zeros([1, 1]);
    optimizer.step(parameter, gradient, { step: 1, learningRate: 0.1, gradScale: 1 });
    assert.equal(await parameter.value.item(), Math.fround(1 - 0.1 * 0.5));
    [gradient, optimizer].forEach((owner) => owner.dispose());
    parameter.release();
  });

  it("refuses a misspelt option and names the right one", () => {
    assert.throws(() => build({ weight_dekay: 0.1 }), /weight_decay/);
  });
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { builtins } from "../../../plugins/index.ts";
import { checkRecipe, createRegistry, loadRecipe, profileRecipe } from "../../../runtime/index.ts";
import { memory } from "../../../runtime/tensor/index.ts";
import { root } from "../../process/octavo.ts";

describe("profile", () => {
  it("PF-1 measures every component of a recipe, forward and back, and leaves nothing behind", async () => {
    const checked = await checkRecipe(loadRecipe(join(root, "test/recipes/mini.yaml")), createRegistry(builtins));
    const before = memory().bytesInUse;
    const profile = await profileRecipe(checked, { steps: 1 });
    assert.deepEqual(profile.map(({ component }) => component), checked.graph.nodes.map(({ name }) => name));
    for (const { component, forward, inputGradient, weightGradient } of profile) {
      const node = checked.graph.nodes.find(({ name }) => name === component)!;
      assert.ok(forward > 0, component);
      assert.equal(inputGradient > 0, node.kind !== "data-loader" && node.kind !== "teacher", component);
      assert.equal(weightGradient > 0, node.kind !== "data-loader" && node.kind !== "teacher", component);
    }
    const of = (name: string): number => profile.find(({ component }) => component === name)!.forward;
    assert.ok(of("fusion") > of("wpa"), "three layers over all tokens cost more than a head");
    assert.equal(memory().bytesInUse, before);
  });
});

import assert from "node:assert/strict";
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, nn } from "../../../runtime/index.ts";
import { checkFile } from "../../../runtime/pipeline/plan/check.ts";
import { shareOut } from "../../../runtime/parallel/sharing/tensor-parallel.ts";
import type { HostArray } from "../../../runtime/tensor/index.ts";
import { miniRecipe } from "../../process/octavo.ts";
import { code, noLeaks } from "../numbers.ts";
import { type GroupProcesses, startGroup } from "./group-processes.ts";
import { type Found, type Told, largePage, learn, networks } from "./tensor-networks.ts";

const module = new URL("./tensor-networks.ts", import.meta.url);

/** The largest difference, against the largest wanted number. */
function differenceOf(got: HostArray, wanted: HostArray): number {
  let most = 0, peak = 0;
  for (let i = 0; i < wanted.length; i++) {
    most = Math.max(most, Math.abs(Number(got[i]) - Number(wanted[i])));
    peak = Math.max(peak, Math.abs(Number(wanted[i])));
  }
  assert.equal(got.length, wanted.length);
  return peak === 0 ? most : most / peak;
}

const norm = (values: HostArray): number => Math.sqrt(Array.from(values as Float64Array).reduce((total, x) => total + x * x, 0));

function assertNear(got: Record<string, HostArray>, wanted: Record<string, HostArray>, tolerance: number, what: string): void {
  assert.deepEqual(Object.keys(got).sort(), Object.keys(wanted).sort(), what);
  for (const [name, values] of Object.entries(wanted)) {
    const difference = differenceOf(got[name], values);
    assert.ok(difference <= tolerance, `${what} ${name}: differs by ${difference} of its largest number`);
  }
}

/** Per tensor, the norm of the difference against its norm, with a floor of 1e-6 of the norm of all. */
function assertNormNear(got: Record<string, HostArray>, wanted: Record<string, HostArray>, tolerance: number): void {
  const floor = 1e-6 * norm(Float64Array.from(Object.values(wanted).map(norm)));
  for (const [name, values] of Object.entries(wanted)) {
    const difference = norm(Float64Array.from(values as Float32Array, (x, i) => x - Number(got[name][i])));
    assert.ok(difference <= tolerance * Math.max(norm(values), floor), `gradient of ${name}: differs by ${difference}, its norm is ${norm(values)}`);
  }
}

for (const size of [2, 4]) {
  describe(`a component shared out over ${size} processes`, function () {
    this.timeout(180_000);
    noLeaks();
    let group: GroupProcesses;
    before(async () => { group = await startGroup({ size, module }); });
    after(() => group.end());

    /** Equal one process (TP-2), with every number of tokens, also those that the members do not divide. */
    async function equalsOneProcess(network: string, sharesTokens: boolean): Promise<void> {
      const told: Told = { network, dtype: "f64", steps: 50, sharesTokens };
      const wanted = await learn(undefined, told), all = await group.run<Found>("learn", told), [got] = all;
      assertNear(got.outputs, wanted.outputs, 1e-12, "output");
      assertNear(got.gradients, wanted.gradients, 1e-11, "gradient");
      assertNear(got.values, wanted.values, 1e-9, "after 50 steps,");
      assert.ok(got.losses[49] !== got.losses[0]);
      got.losses.forEach((loss, step) => assert.ok(Math.abs(loss - wanted.losses[step]) <= 1e-9 * Math.max(1, Math.abs(wanted.losses[step])), `loss of step ${step}`));
      assert.ok(got.shared.length > 0 && got.held < wanted.held, "something is shared out");
      for (const other of all) assert.deepEqual([other.losses, other.outputs, other.gradients, other.values], [got.losses, got.outputs, got.gradients, got.values], "TP-2: all members have the same bits");
      const narrow = { ...told, dtype: "f32" as const, steps: 1 };
      assertNormNear((await group.run<Found>("learn", narrow))[0].gradients, (await learn(undefined, narrow)).gradients, 1e-5);
    }

    const small = Object.keys(networks).filter((name) => name !== largePage);
    for (const network of small) {
      it(`${network}: outputs, gradients and 50 steps in f64, gradients in f32`, () => equalsOneProcess(network, false));
    }
    for (const network of small.filter((name) => !name.startsWith("fusion/"))) {
      it(`${network}, tokens shared out: the same`, () => equalsOneProcess(network, true));
    }

    it("remembers less the more is shared out, tokens too", async () => {
      const told: Told = { network: largePage, dtype: "f32", steps: 1 };
      const alone = await learn(undefined, told);
      const [[weights], [tokens]] = [await group.run<Found>("learn", told), await group.run<Found>("learn", { ...told, sharesTokens: true })];
      assert.ok(weights.remembered < 0.85 * alone.remembered && tokens.remembered < 0.96 * weights.remembered, `${alone.remembered}, ${weights.remembered}, ${tokens.remembered} bytes`);
    });

    it("with blocks that run again on the way back: the same bits", async () => {
      const told: Told = { network: "text-encoder/llama", dtype: "f32", steps: 3 };
      for (const sharesTokens of [false, true]) {
        const [plain, again] = [await group.run<Found>("learn", { ...told, sharesTokens }), await group.run<Found>("learn", { ...told, sharesTokens, recompute: true })];
        assert.ok(again.every(({ remembered }, rank) => remembered < 0.6 * plain[rank].remembered));
        assert.deepEqual(again.map((found) => ({ ...found, remembered: 0 })), plain.map((found) => ({ ...found, remembered: 0 })));
      }
    });
  });
}

describe("sharing parameters out", () => {
  noLeaks();
  const members = (index: number, count: number) => ({ index, count }) as nn.Members;
  const packed = () => nn.collect({ qkv: nn.linear({ in: 2, out: 12 }), proj: nn.linear({ in: 4, out: 3 }) });

  it("TP-1: gives each member its share of what one process starts from, every part of a packed weight by itself", async () => {
    const whole = packed(), plan = { column: ["qkv"], packed: { qkv: 3 }, row: ["proj"] };
    nn.materialise(whole, { seed: 1, prefix: "" });
    const shares = [0, 1].map((index) => {
      const parameters = packed();
      shareOut(parameters, plan, members(index, 2));
      nn.materialise(parameters, { seed: 1, prefix: "" });
      return parameters;
    });
    const weight = await whole["qkv.weight"].value.read();
    const rows = (...which: number[]) => which.flatMap((row) => [...weight as Float32Array].slice(2 * row, 2 * row + 2));
    assert.deepEqual(shares[0]["qkv.weight"].shape, [6, 2]);
    assert.deepEqual([...await shares[0]["qkv.weight"].value.read()], rows(0, 1, 4, 5, 8, 9));
    assert.deepEqual([...await shares[1]["qkv.weight"].value.read()], rows(2, 3, 6, 7, 10, 11));
    for (const [name, parameter] of Object.entries(whole)) {
      const values = await Promise.all(shares.map((share) => share[name].value.read()));
      const joinedAgain = shares[0][name].split ? nn.joinShares(shares[0][name], values as Float32Array[]) : values[1];
      assert.deepEqual([...joinedAgain], [...await parameter.value.read()], name);
    }
    assert.equal(shares[1]["proj.bias"].split, undefined);
    for (const parameters of [whole, ...shares]) nn.release(parameters);
  });

  it("refuses a path that names nothing, a size that members do not divide, and a parameter that has a value", () => {
    assert.throws(() => shareOut(packed(), { column: ["qvk"] }, members(0, 2)), code("ERR_PLUGIN", /tensor plan: "qvk" names none of the parameters qkv.weight, /));
    assert.throws(() => shareOut(packed(), { column: ["qkv"], packed: { qkv: 3 } }, members(0, 8)), code("ERR_SHAPE", /dimension 0 in parts \(4, 4, 4\) that 8 members divide/));
    const begun = packed();
    nn.materialise(begun, { seed: 1, prefix: "" });
    assert.throws(() => shareOut(begun, { row: ["proj"] }, members(0, 2)), code("ERR_SHAPE", /no value yet/));
    nn.release(begun);
  });
});

describe("a tensor layout that cannot be", () => {
  const refused = (recipe: string, ...changes: string[]) => checkFile(recipe, createRegistry(builtins), changes).then(() => assert.fail("the layout was accepted"), (error: Error) => error.message);

  it("is refused by name: heads that do not divide, options that stand in the way", async () => {
    const three = await refused(miniRecipe, "components.text.layout={ tensor: 4 }", "components.image.layout={ tensor: 3 }", "components.teacher.layout={ tensor: 3 }");
    assert.match(three, /components\.text\.layout\.tensor[^]*a number of members that divides the 2 kv heads of text \(text-encoder\/llama\), found 4/);
    assert.match(three, /components\.image\.layout\.tensor[^]*divides the 4 heads of image \(image-encoder\/beit\), found 3/);
    assert.match(await refused("test/recipes/mini-long-text.yaml", "layout={ tensor: 2 }", "components.text.options.attention=s2"), /text \(text-encoder\/llama\) has attention: s2: half of the heads have displaced groups/);
  });

  it("does not forbid what fits", async () => {
    await checkFile(miniRecipe, createRegistry(builtins), ["layout={ tensor: 2 }"]);
  });
});

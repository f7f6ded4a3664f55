import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { z } from "zod";
import { RuntimeError } from "../../../runtime/errors.ts";
import { createHost, createRegistry, definePlugin } from "../../../runtime/plugin/index.ts";
import type { Kind, Plugin } from "../../../runtime/plugin/index.ts";

const plugin = (kind: Kind, name: string, version = "1.0.0"): Plugin =>
  definePlugin({ kind, name, version, options: z.strictObject({ size: z.int().default(3) }), create: ({ size }, host) => ({ name, size, seed: host.seed }) as never });

const known = (): ReturnType<typeof createRegistry> =>
  createRegistry([plugin("fusion", "multiway"), plugin("fusion", "concatenation"), plugin("tokenizer", "bpe"), plugin("evaluator", "answers")]);

const message = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof RuntimeError && error.code === "ERR_PLUGIN", `expected ERR_PLUGIN, got ${String(error)}`);
    return error.message;
  }
  return assert.fail("nothing was thrown");
};

describe("the registry", () => {
  it("finds a plugin by kind/name", () => {
    assert.equal(known().resolve("fusion/multiway").name, "multiway");
    assert.deepEqual(known().plugins("fusion").map((p) => p.id), ["fusion/multiway", "fusion/concatenation"]);
  });

  it("answers an unknown id with the nearest spelling (R-2)", () => {
    assert.equal(message(() => known().resolve("fusion/multwiay")), `plugin fusion/multwiay: expected a plugin (kind/name, or package/kind/name), found "fusion/multwiay". Did you mean "fusion/multiway"?`);
    assert.match(message(() => known().resolve("fusoin/multiway")), /Did you mean "fusion\/multiway"\?$/);
    assert.match(message(() => known().resolve("multiway")), /Did you mean "fusion\/multiway"\?$/);
  });

  it("lists the kind when nothing is near, and the kinds when the kind is unknown (R-2)", () => {
    assert.match(message(() => known().resolve("fusion/perceiver-resampler")), /Known: fusion\/multiway, fusion\/concatenation\.$/);
    assert.match(message(() => known().resolve("sound/spectrogram-thing")), /Known kinds: fusion, tokenizer, evaluator\.$/);
  });

  it("refuses a plugin of another kind than the place needs", () => {
    assert.equal(message(() => known().resolve("fusion/multiway", "evaluator")),
      `plugin fusion/multiway: expected a plugin of kind evaluator, found "fusion/multiway", which is of kind fusion. Use evaluator/answers.`);
  });

  it("refuses two plugins of one id (R-1)", () => {
    const registry = known();
    assert.match(message(() => registry.add([plugin("fusion", "multiway", "2.0.0")])), /found versions 1\.0\.0 and 2\.0\.0/);
  });

  it("refuses what definePlugin did not make", () => {
    assert.match(message(() => known().add([{ kind: "fusion" } as unknown as Plugin])), /Export an array of plugins/);
  });
});

describe("a plugin of a package", () => {
  let folder: string;
  beforeEach(() => { folder = mkdtempSync(join(tmpdir(), "octavo-registry-")); });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Writes a package that exports one plugin by the mark alone, as a second copy of this library would. */
  function install(name: string, source: string, manifest: Record<string, unknown> = { type: "module", exports: { ".": { import: "./door.js" } } }): void {
    const root = join(folder, "node_modules", name);
    mkdirSync(root, { recursive: true });
    writeFileSync(join(root, "package.json"), JSON.stringify({ name, version: "0.1.0", ...manifest }));
    writeFileSync(join(root, "door.js"), source);
  }

  const gated = `export const plugins = [{ [Symbol.for("octavo.plugin")]: 1, kind: "fusion", name: "gated", id: "fusion/gated", version: "0.1.0", about: "",
    options: {}, separable: true, ports: () => ({ in: {}, out: {} }), counts: () => [], maxDims: () => ({}), create: () => ({}) }];`;

  it("is imported from the node_modules at or above the recipe, with a scope or without", async () => {
    install("my-package", gated);
    install("@us/pack", gated, { type: "module", main: "door.js" });
    const inner = join(folder, "recipes", "deep");
    mkdirSync(inner, { recursive: true });
    const registry = createRegistry();
    assert.equal((await registry.load("my-package/fusion/gated", inner)).id, "my-package/fusion/gated");
    assert.equal((await registry.load("@us/pack/fusion/gated", inner)).id, "@us/pack/fusion/gated");
    assert.equal(registry.resolve("my-package/fusion/gated").version, "0.1.0");
  });

  it("says how to install a package that is not there", async () => {
    await assert.rejects(createRegistry().load("my-package/fusion/gated", folder), (error: RuntimeError) => {
      assert.equal(error.code, "ERR_PLUGIN");
      assert.match(error.message, /expected package my-package to be installed.*Run "npm install my-package"/);
      return true;
    });
  });

  it("keeps the cause when a package fails to load", async () => {
    install("broken", `throw new Error("no licence");`);
    await assert.rejects(createRegistry().load("broken/fusion/gated", folder), (error: RuntimeError) => {
      assert.match(error.message, /expected package broken to load, found no licence in /);
      assert.equal((error.cause as Error).message, "no licence");
      return true;
    });
  });

  it("names the nearest plugin of the package when the name is wrong", async () => {
    install("my-package", gated);
    await assert.rejects(createRegistry().load("my-package/fusion/gaetd", folder), /Did you mean "my-package\/fusion\/gated"\?$/);
  });

  it("refuses a package without plugins", async () => {
    install("plain", "export const nothing = 1;");
    await assert.rejects(createRegistry().load("plain/fusion/gated", dirname(join(folder, "x"))), /expected package plain to export `plugins`.*found exports nothing/);
  });
});

describe("the host of a plugin", () => {
  it("builds a plugin inside a plugin with its defaults, and resolves paths from the recipe", () => {
    const host = createHost(known(), { folder: "/recipes", seed: 7 });
    assert.deepEqual(host.build("tokenizer/bpe", { size: 5 }, "tokenizer"), { name: "bpe", size: 5, seed: 7 });
    assert.equal(host.resolvePath("data/x.json"), "/recipes/data/x.json");
    assert.equal(host.resolvePath("/data/x.json"), "/data/x.json");
  });

  it("refuses wrong options by name of the inner plugin", () => {
    const host = createHost(known(), { folder: "/recipes", seed: 7 });
    assert.throws(() => host.build("tokenizer/bpe", { siz: 5 }, "tokenizer"), /tokenizer\/bpe: siz: expected an option of tokenizer\/bpe, found "siz"\. Did you mean "size"\?/);
  });
});

describe("definePlugin", () => {
  it("refuses a kind that does not exist and a name that is not kebab-case", () => {
    assert.match(message(() => plugin("fusoin" as Kind, "x")), /expected one of the kinds data-loader, /);
    assert.match(message(() => plugin("fusion", "MultiWay")), /expected a name in kebab-case, found "MultiWay"/);
  });
});

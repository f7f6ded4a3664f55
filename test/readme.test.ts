import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { llamaEncoder } from "../plugins/text-encoder/llama.ts";
import { writeSafetensors } from "../runtime/index.ts";
import { fillWeight } from "./plugins/model/fill.ts";
import { build, sum } from "./plugins/model/harness.ts";
import { losses, octavo, root, temporaryFolder } from "./process/octavo.ts";

describe("the README", function () {
  this.timeout(120_000);
  const text = readFileSync(join(root, "README.md"), "utf8");

  it("links only to what is there, as do the READMEs of the floors", () => {
    const readmes = ["README.md", ...["runtime", "plugins", "cluster", "native-cuda", "examples"].flatMap((folder) => readmesIn(join(root, folder)))];
    const broken = readmes.flatMap((readme) =>
      [...readFileSync(join(root, readme), "utf8").matchAll(/\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)/g)]
        .map((match) => match[1]).filter((target) => !existsSync(resolve(root, dirname(readme), target))).map((target) => `${readme}: ${target}`));
    assert.deepEqual(broken, []);
    assert.ok(readmes.length > 5);
  });

  it("shows a plugin that works as it stands", async () => {
    const folder = temporaryFolder();
    try {
      const source = /```js\n(\/\/ node_modules\/gated-fusion[\s\S]*?)```/.exec(text)![1];
      const packageFolder = join(folder.path, "node_modules/gated-fusion");
      mkdirSync(packageFolder, { recursive: true });
      writeFileSync(join(packageFolder, "index.js"), source);
      writeFileSync(join(packageFolder, "package.json"), '{ "name": "gated-fusion", "type": "module", "main": "index.js" }');
      symlinkSync(root, join(folder.path, "node_modules/octavo"));
      symlinkSync(join(root, "node_modules/zod"), join(folder.path, "node_modules/zod"));
      const recipe = join(folder.path, "recipe.yaml");
      writeFileSync(recipe, readFileSync(join(root, "test/recipes/mini.yaml"), "utf8").replaceAll("../../examples", join(root, "examples"))
        .replace("use: fusion/multiway\n    options: { layers: 2 }", "use: gated-fusion/fusion/gated"));
      const ended = await octavo(["train", recipe, "--runs", folder.path, "--set", "train.steps=2"]);
      assert.equal(ended.code, 0, ended.stderr + ended.stdout.slice(-1000));
      assert.equal(losses(ended).size, 2);
    } finally {
      folder.remove();
    }
  });

  it("of the plugins shows a component alone that works as it stands, to the golden numbers of its weights", () => {
    const folder = temporaryFolder(), source = /```js\n([^`]*aloneHost[^]*?)```/.exec(readFileSync(join(root, "plugins/README.md"), "utf8"))![1];
    try {
      mkdirSync(join(folder.path, "node_modules"));
      symlinkSync(root, join(folder.path, "node_modules/octavo"));
      writeFileSync(join(folder.path, "alone.mjs"), source);
      const llama = build(llamaEncoder, { vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, head_dim: 4, hidden: 24, lm_head: "trained" });
      writeSafetensors(join(folder.path, "weights.safetensors"), new Map(Object.entries(llama.parameters()).map(([name, { shape }]) =>
        [name, { dtype: "F64", shape, data: new Uint8Array(Float64Array.from(fillWeight(name === "text.lm_head.weight" ? "lm_head.weight" : `model.${name.slice(5)}`, shape)).buffer) }])));
      const ended = spawnSync(process.execPath, ["alone.mjs"], { cwd: folder.path, encoding: "utf8" });
      assert.equal(ended.status, 0, ended.stderr);
      const logits = ended.stdout.trim().split(" ").map(Number);
      // G-LLAMA, bidirectional: sum and first number, computed in float64 by an independent implementation
      assert.equal(logits.length, 8 * 23);
      assert.ok(Math.abs(sum(logits) - 13.0101653156) < 1e-8 && Math.abs(logits[0] - 0.0144161748) < 1e-8, `${sum(logits)}, ${logits[0]}`);
    } finally {
      folder.remove();
    }
  });

  it("names only commands that exist", async () => {
    const scripts = Object.keys((JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: object }).scripts);
    for (const [, script] of text.matchAll(/npm run ([a-z:]+)/g)) assert.ok(scripts.includes(script), `npm run ${script}`);
    const files = [...text.matchAll(/(?:examples|test)\/[\w./-]+\.(?:yaml|mjs|ts|jpg)/g)].map(([file]) => file);
    assert.deepEqual(files.filter((file) => !existsSync(join(root, file))), []);
  });
});

function readmesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? readmesIn(join(folder, entry.name)) : entry.name === "README.md" ? [relative(root, join(folder, entry.name))] : []);
}

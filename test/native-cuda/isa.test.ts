// OCTAVO_ISA: one binary on every machine of its family. What a lesser machine would compute is computed here, in child processes.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { promisify } from "node:util";
import { addonPath } from "../../native-cuda/index.ts";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";

const about = async (environment: Record<string, string>): Promise<ReturnType<ReturnType<typeof native>["info"]>> =>
  JSON.parse((await child("console.log(JSON.stringify(device.info()));", [], environment).exited).output);

/** The bits of a product of fixed (200, 200) matrices by the library that `environment` leaves. */
const product = async (environment: Record<string, string>): Promise<string> => (await child(`
  const [a, y] = [device.allocate(1, [200, 200]), device.allocate(1, [200, 200])];
  device.upload(a, Float32Array.from({ length: 40000 }, (_, i) => Math.sin(i)));
  device.launch(device.kernel("matmul"), [a, a, y], [0, 0]);
  console.log(Buffer.from(await device.read(y)).toString("base64"));`, [], environment).exited).output;

/** Has this machine more than the limit leaves? Else the limit changes nothing and its run proves nothing new. */
const exceeds = (limit: string): boolean => process.arch === "x64" && native().info().isa.includes(limit === "baseline" ? "avx2" : "avx512f");

describe("instruction sets", () => {
  it("OCTAVO_ISA holds the clones, what is reported and oneDNN to its limit", async function () {
    if (!exceeds("avx2")) this.skip();
    const [whole, avx512, avx2, baseline] = await Promise.all(["", "avx512", "avx2", "baseline"].map((isa) => about({ OCTAVO_ISA: isa })));
    assert.deepEqual([whole.isaLimit, whole.clones, avx512.isaLimit, avx512.clones], ["none", "avx512f", "avx512", "avx512f"]);
    assert.deepEqual([avx2.isaLimit, avx2.clones, avx2.isa], ["avx2", "avx2", ["sse4.2", "avx2", "fma"]]);
    assert.deepEqual([baseline.isaLimit, baseline.clones, baseline.isa], ["baseline", "default", ["sse4.2"]]);
    for (const info of [avx2, baseline]) assert.equal(info.gemm.library, whole.gemm.library, info.gemm.tried.join("; "));
  });

  it("OCTAVO_ISA=baseline makes oneDNN multiply without FMA: other bits", async function () {
    if (!exceeds("baseline") || native().info().gemm.library !== "oneDNN") this.skip();
    const [whole, again, baseline] = await Promise.all(["", "", "baseline"].map((isa) => product({ OCTAVO_ISA: isa })));
    assert.ok(whole.length > 200_000 && again === whole);
    assert.ok(baseline.length === whole.length && baseline !== whole, "the same bits: oneDNN was not held to OCTAVO_ISA");
  });

  it("an unknown OCTAVO_ISA is refused, naming the known ones", async () => {
    const { output } = await child("", [], { OCTAVO_ISA: "sse9" }).exited;
    assert.match(output, /OCTAVO_ISA expected avx512, avx2 or baseline, got "sse9"/);
  });

  const testsIn = (folder: string): string[] => readdirSync(folder).filter((file) => file.endsWith(".test.ts")).map((file) => `${folder}/${file}`);
  const files = [...testsIn("test/native-cuda/kernels"), ...["softmax", "attention", "matmul"].map((name) => `test/native-cuda/${name}.test.ts`),
    ...testsIn("test/runtime/ops").filter((file) => !file.endsWith("overhead.test.ts"))];
  for (const [variable, value] of [["OCTAVO_ISA", "avx2"], ["OCTAVO_ISA", "baseline"], ["OCTAVO_GEMM", "portable"]] as const) {
    it(`kernels and ops pass their tests with ${variable}=${value}`, async function () {
      this.timeout(900_000); // a minute and a half on two idle cores, many more on busy ones
      if (variable === "OCTAVO_ISA" && !exceeds(value)) this.skip();
      const run = promisify(execFile)(process.execPath, ["scripts/test.mjs", ...files], { env: { OCTAVO_PROPERTY_RUNS: "4", ...process.env, [variable]: value }, maxBuffer: 2 ** 26 });
      const { stdout } = await run.catch((failed: { stdout: string; stderr: string }) => assert.fail(failed.stdout.slice(-6000) + failed.stderr.slice(-2000)));
      const passed = Number(/^(\d+) passed, 0 failed$/m.exec(stdout)?.[1]);
      assert.ok(passed > 1000, `${passed} passed`);
    });
  }

  // A function that a lesser machine runs must not hold a wider register. Clones and versions are named f.avx512f, f.avx2 and f.default
  // by the compiler; a function written for one set on purpose (target attribute, intrinsics) says so in its name: ..._avx512..., ..._amx..., ..._avx2....
  it("wide registers occur only in functions made for them", async function () {
    if (process.arch !== "x64") this.skip();
    const listing = await promisify(execFile)("objdump", ["-d", "--no-show-raw-insn", addonPath().path], { maxBuffer: 2 ** 30 })
      .then(({ stdout }) => stdout, (failed: NodeJS.ErrnoException) => { if (failed.code === "ENOENT") return undefined; throw failed; });
    if (listing === undefined) {
      console.log("      objdump is not installed (package binutils): the listing of the addon is not looked at");
      this.skip();
    }
    const { wrong, wide } = misplaced(listing!);
    assert.deepEqual(wrong, []);
    assert.doesNotMatch(listing!, /%tmm\d/); // AMX is oneDNN's alone: nothing of ours needs the tiles that a system may not grant
    assert.ok(wide >= 100, `only ${wide} functions use wide registers: were the symbols stripped?`);
  });
});

/** Functions that use %zmm or %ymm registers without being made for them, and how many use them at all. */
function misplaced(listing: string): { wrong: string[]; wide: number } {
  const wrong = new Set<string>(), all = new Set<string>();
  let name = "";
  for (const line of listing.split("\n")) {
    const opens = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    if (opens) name = opens[1];
    const zmm = line.includes("%zmm"), wide = zmm || line.includes("%ymm");
    if (!wide) continue;
    all.add(name);
    if (!(zmm ? /avx512|amx/i : /avx512|amx|avx2/i).test(name)) wrong.add(`${name} uses ${zmm ? "zmm" : "ymm"}`);
  }
  return { wrong: [...wrong], wide: all.size };
}

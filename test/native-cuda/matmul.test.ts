import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { bf16Findings, findings, type Finding } from "./matmul-cases.ts";
import { native } from "../../runtime/native.ts";
import { child } from "./child.ts";
import { run } from "./device.ts";

// f32 sums of at most 5000 products of numbers in [-1, 1), relative to the largest element of the result
const tolerance = 2e-6;

function check(found: Finding[]) {
  assert.ok(found.length >= 60, `only ${found.length} cases ran`);
  for (const { what, error, text, differs } of found) {
    assert.ok(error < tolerance, `${what}: ${text}`);
    assert.deepEqual(differs, [], what);
  }
}

describe("matrix products", () => {
  it("agree with f64 and have the same bits on 1, 2, 3, 4 and 8 threads", async () => check(await findings()));

  // f32 sums as above; a bf16 result may be off by its rounding besides, which `error` leaves out
  it("do so with bf16 operands, which may have f32 weights, biases and results beside them (GM-4, LI-1)", async () => check(await bf16Findings()));

  it("do so with the portable gemm too, which OCTAVO_GEMM=portable chooses", async function () {
    this.timeout(240_000);
    const program = fileURLToPath(new URL("./matmul-cases.ts", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", "--conditions", "source", program],
      { env: { ...process.env, OCTAVO_GEMM: "portable" }, maxBuffer: 2 ** 24 });
    const { library, f32, bf16 } = JSON.parse(stdout) as { library: string; f32: Finding[]; bf16: Finding[] };
    assert.equal(library, "portable");
    check(f32);
    check(bf16);
  });

  it("say in info() how f32 and bf16 are computed", () => {
    const { gemm, isa } = native().info();
    if (gemm.library === "portable") return assert.deepEqual([gemm.f32, gemm.bf16], ["portable blocked sgemm", "widened to f32"]);
    assert.match(gemm.f32, /dnnl_sgemm/);
    assert.match(gemm.bf16, isa.includes("avx512_bf16") ? /^primitives brg|^widened to f32: oneDNN/ : /^widened to f32: the processor has no avx512_bf16$/);
  });

  it("multiply (2, 3) by (3, 2) as by hand", async () => {
    const a = { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }, b = { shape: [3, 2], data: Float32Array.of(7, 8, 9, 10, 11, 12) };
    const [y] = await run("matmul", [a, b, { out: [2, 2] }], [0, 0]);
    assert.deepEqual([...y], [58, 64, 139, 154]); // 1*7 + 2*9 + 3*11 = 58, ...
  });

  it("refuse an OCTAVO_GEMM that does not exist", async () => {
    const { output } = await child(`try { device.info(); } catch (error) { console.log(error.code, error.message); }`, [], { OCTAVO_GEMM: "fastest" }).exited;
    assert.match(output, /^ERR_NATIVE OCTAVO_GEMM expected portable, onednn or auto, got "fastest"$/m);
  });

  it("fault with the shapes when operands do not fit", async () => {
    const a = { shape: [2, 3], data: new Float32Array(6) };
    await assert.rejects(run("matmul", [a, a, { out: [2, 2] }], [0, 0]), { code: "ERR_DEVICE", message: /matmul: b expected shape \(3, 3\), got f32 \(2, 3\)/ });
    const w = { shape: [4, 2], data: new Float32Array(8) };
    await assert.rejects(run("linear_forward", [a, w, undefined, { out: [2, 4] }]), { code: "ERR_DEVICE", message: /w expected \(4, 3\), got \(4, 2\)/ });
  });
});

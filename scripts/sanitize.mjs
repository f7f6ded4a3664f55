/**
 * `npm run test:sanitize [test files]`: builds the addon with the address and undefined behaviour sanitizers into build/native-asan and
 * runs the tests of kernels and ops with it. The first finding ends the test process with its stack; the last line is that of scripts/test.mjs.
 *
 * Node itself is not instrumented: libasan is loaded before it, so that its allocator serves everyone. Leaks are not looked for, since V8
 * leaves its heap to the system (tensors have their own accounting, test/leaks.ts). The JIT's own code needs no suppressions.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const build = join("build", "native-asan"), addon = resolve(build, "octavo.node"), compiler = process.env.CXX ?? "g++";

const run = (command, args, options = {}) => spawnSync(command, args, { stdio: "inherit", ...options }).status ?? 1;
const fail = (message) => {
  console.error(`sanitize: ${message}`);
  process.exit(1);
};

/** The path of a runtime library of the compiler. */
function library(name) {
  const path = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" }).stdout?.trim() ?? "";
  return path.startsWith("/") && existsSync(path) ? path : fail(`${compiler} has no ${name}. Install its sanitizers (Debian: part of libgcc-12-dev or later).`);
}

const testsIn = (folder) => readdirSync(folder).filter((file) => file.endsWith(".test.ts")).map((file) => join(folder, file));

/** Left out: what measures time, what reads the disassembly of the plain build, what compares processes of other environments. */
const leftOut = /(overhead|isa)\.test\.ts$/;

// libstdc++ beside libasan: the interceptor of exceptions looks for it when the process starts, and node brings its own, linked in.
const preload = [library("libasan.so"), library("libstdc++.so.6")].join(" ");
if (run("cmake", ["-S", "native-cuda", "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DOCTAVO_CUDA=OFF", "-DOCTAVO_SANITIZE=ON"], { stdio: ["ignore", "ignore", "inherit"] }) !== 0) fail("cmake could not configure native-cuda");
if (run("cmake", ["--build", build, "--parallel", String(availableParallelism())], { stdio: ["ignore", "ignore", "inherit"] }) !== 0) fail("the addon did not compile");

const given = process.argv.slice(2);
const files = given.length ? given : ["test/native-cuda", "test/native-cuda/kernels", "test/runtime/ops", "test/runtime/tensor", "test/runtime/autograd", "test/runtime/optimizer"].flatMap(testsIn).filter((file) => !leftOut.test(file));
process.exitCode = run(process.execPath, ["scripts/test.mjs", "--timeout", "300000", ...files], { env: {
  ...process.env, OCTAVO_ADDON: addon, LD_PRELOAD: preload,
  ASAN_OPTIONS: "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0", UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
} });

/**
 * Makes a bare clone ready to run: system packages, npm packages, native addon, TypeScript build.
 *
 * S-1: needs nothing but Node and npm; install scripts of packages may be blocked.
 * S-2: idempotent; every step compares a hash of its inputs with the stamp of its last success and skips what is done.
 * S-3: what it may not install it names, with the command that installs it.
 *
 * `node scripts/setup.mjs` runs all steps; `node scripts/setup.mjs native typescript` only those named.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { hashOf, isDone, markDone } from "./stamp.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
const logFile = join("build", "setup.log");
const steps = { system, packages, native, typescript };

function main(wanted) {
  const unknown = wanted.filter((name) => !(name in steps));
  if (unknown.length) fail(`unknown step ${unknown.join(", ")}; the steps are ${Object.keys(steps).join(", ")}`);
  if (process.platform !== "linux") fail(`Octavo runs on Linux; this is ${process.platform}. Use a Linux machine or container.`);
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) fail(`Node 20.19 or later is needed, this is ${process.versions.node}`);
  mkdirSync("build", { recursive: true });
  oneAtATime();
  writeFileSync(logFile, "");
  for (const name of wanted.length ? wanted : Object.keys(steps)) steps[name]();
}

/** Two set-ups of one clone at the same time would build into each other: the second waits for the first. */
function oneAtATime() {
  if (process.env.OCTAVO_SETUP_LOCKED === root || !onPath("flock")) return;
  const again = spawnSync("flock", [join("build", "setup.lock"), process.execPath, ...process.argv.slice(1)],
    { stdio: "inherit", env: { ...process.env, OCTAVO_SETUP_LOCKED: root } });
  process.exit(again.status ?? 1);
}

/** A C++ compiler, make and CMake are required; oneDNN and UCX are optional. */
function system() {
  const required = [["g++", "g++"], ["make", "make"], ["cmake", "cmake"]].filter(([command]) => !onPath(command)).map(([, name]) => name);
  const optional = [
    { name: "libdnnl2", there: hasOneDnn, choose: oneDnnPackage, without: "oneDNN is not installed, matmuls take the portable path (slower)" },
    { name: "libucx-dev", there: hasUcx, choose: () => "libucx-dev", without: "UCX is not installed, tensors between hosts travel by zeromq alone (no InfiniBand)" },
  ].filter(({ there }) => !there());
  const missing = [...required, ...optional.map(({ name }) => name)];
  if (!missing.length) return say("system packages", "present");
  const asRoot = process.getuid?.() === 0 ? [] : onPath("sudo") && spawnSync("sudo", ["-n", "true"]).status === 0 ? ["sudo", "-n"] : undefined;
  const advice = `install them with: sudo apt-get install -y ${missing.join(" ")}  (or your distribution's packages of these)`;
  if (!asRoot || !onPath("apt-get")) {
    if (required.length) fail(`missing: ${missing.join(", ")}; ${advice}`);
    return say("system packages", `${optional.map(({ without }) => without).join("; ")}; ${advice}`);
  }
  say("system packages", `installing ${missing.join(", ")}`);
  const patience = ["-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"];
  const apt = (...args) => run([...asRoot, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", ...patience, ...args]);
  apt("update");
  if (required.length && apt("install", "-y", ...required) !== 0) fail(`could not install ${required.join(", ")}; ${advice}`, true);
  for (const { choose, without } of optional) {
    if (apt("install", "-y", choose()) !== 0) say("system packages", `${choose()} could not be installed: ${without}; see ${logFile}`);
  }
}

/** npm packages exactly as in package-lock.json; npm's own record of what is installed tells whether they are there. */
function packages() {
  if (packagesMatchLock()) return say("npm packages", "present");
  say("npm packages", "installing (npm ci)");
  if (run(["npm", "ci", "--no-audit", "--no-fund"]) !== 0) fail("npm ci failed", true);
  if (!packagesMatchLock()) fail("npm ci ended well, but node_modules does not match package-lock.json; remove node_modules and try again", true);
}

function packagesMatchLock() {
  const record = join("node_modules", ".package-lock.json");
  if (!existsSync(record)) return false;
  const wanted = JSON.parse(readFileSync("package-lock.json", "utf8")).packages;
  const have = JSON.parse(readFileSync(record, "utf8")).packages;
  return Object.entries(wanted).every(([path, entry]) => path === "" || (path in have ? have[path].version === entry.version : entry.optional === true));
}

/** CMake into build/native. CUDA is found at configure time, so its appearance is one of the inputs. */
function native() {
  const addon = join("build", "native", "octavo.node");
  const stamp = { name: "native", hash: hashOf(["native-cuda"], [`nvcc ${findNvcc() ?? "none"}`, `ucx ${hasUcx()}`, `cxx ${process.env.CXX ?? ""}`, ...lockedVersions("node-addon-api", "node-api-headers")],
    (path) => !path.endsWith(".ts")) };
  if (existsSync(addon) && isDone(stamp)) return say("native addon", "up to date");
  say("native addon", "building (CMake)");
  const nvcc = findNvcc();
  if (run(["cmake", "-S", "native-cuda", "-B", join("build", "native"), "-DCMAKE_BUILD_TYPE=Release", ...(nvcc ? [`-DCMAKE_CUDA_COMPILER=${nvcc}`] : [])]) !== 0) fail("cmake could not configure native-cuda", true);
  if (run(["cmake", "--build", join("build", "native"), "--parallel", String(availableParallelism())]) !== 0) fail("the native addon did not compile", true);
  if (!existsSync(addon)) fail(`the native build ended well but left no ${addon}`, true);
  markDone(stamp);
}

/**
 * tsup bundles, files that are read at run time go beside the bundles, tsc writes the type declarations. All of it is made
 * beside dist and takes its place at the end: a failed or running build never leaves half a dist.
 */
function typescript() {
  const stamp = { name: "typescript", hash: hashOf(["runtime", "plugins", "cluster", "native-cuda", "tsup.config.ts", "tsconfig.json", "tsconfig.types.json", "package.json"], [],
    (path) => /\.(ts|json|proto)$/.test(path)) };
  if (existsSync(join("dist", "cluster", "cli", "main.js")) && isDone(stamp)) return say("TypeScript build", "up to date");
  say("TypeScript build", "building (tsup, tsc)");
  const part = "dist.part"; // beside dist, so that the paths in source maps hold after the move
  rmSync(part, { recursive: true, force: true });
  if (run([process.execPath, join("node_modules", "tsup", "dist", "cli-default.js"), "--out-dir", part]) !== 0) fail("tsup failed", true);
  cpSync(join("cluster", "control", "octavo.proto"), join(part, "cluster", "control", "octavo.proto"));
  chmodSync(join(part, "cluster", "cli", "main.js"), 0o755);
  if (run([process.execPath, join("node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.types.json", "--outDir", join(part, "types")]) !== 0) fail("the type declarations could not be written", true);
  rmSync("dist", { recursive: true, force: true });
  renameSync(part, "dist");
  markDone(stamp);
}

function lockedVersions(...names) {
  const lock = JSON.parse(readFileSync("package-lock.json", "utf8")).packages;
  return names.map((name) => `${name}@${lock[`node_modules/${name}`]?.version}`);
}

function hasOneDnn() {
  const folders = [...(process.env.LD_LIBRARY_PATH ?? "").split(":"), "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
  return folders.some((folder) => folder && existsSync(folder) && readdirSync(folder).some((file) => /^libdnnl\.so\.[23]$/.test(file)));
}

/** The headers: with them the addon is built with the ucx lane; the package brings the library too. */
function hasUcx() {
  return ["/usr/include", "/usr/local/include"].some((folder) => existsSync(join(folder, "ucp", "api", "ucp.h")));
}

/** Debian 12 calls it libdnnl2, later releases libdnnl3 or libdnnl3.6: ask apt what there is. */
function oneDnnPackage() {
  const found = spawnSync("apt-cache", ["pkgnames", "libdnnl"], { encoding: "utf8" });
  return (found.stdout ?? "").split("\n").filter((name) => /^libdnnl[23](\.\d+)?$/.test(name)).sort().at(-1) ?? "libdnnl2";
}

function findNvcc() {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/local/cuda/bin"];
  return folders.map((folder) => join(folder, "nvcc")).find((path) => existsSync(path));
}

function onPath(command) {
  return (process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder || ".", command)));
}

/** Runs a command with its output in the log; gives the exit status. */
function run([command, ...args]) {
  appendFileSync(logFile, `\n$ ${[basename(command), ...args].join(" ")}\n`);
  const done = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "pipe"] });
  appendFileSync(logFile, `${done.stdout ?? ""}${done.stderr ?? ""}${done.error ? `${done.error.message}\n` : ""}`);
  return done.status ?? 1;
}

function say(step, what) {
  console.log(`setup: ${step}: ${what}`);
}

function fail(message, withLog = false) {
  if (withLog) console.error(readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-40).join("\n"));
  console.error(`setup: ${message}${withLog ? ` (the whole output is in ${logFile})` : ""}`);
  process.exit(1);
}

main(process.argv.slice(2));

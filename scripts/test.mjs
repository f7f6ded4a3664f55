/**
 * `node scripts/test.mjs [--long] [files and mocha options]`: runs mocha and ends with the line `N passed, N failed`.
 * Exits 0 only when at least one test ran, none failed and the test process ended by itself.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const [long, extra] = process.argv[2] === "--long" ? [true, process.argv.slice(3)] : [false, process.argv.slice(2)];
const summaryFile = join("build", `test-summary-${process.pid}.json`);
mkdirSync("build", { recursive: true });

// The configuration file runs everything but test/long, whatever files are named: a run of some files states its own options.
const own = (files, timeoutMs) => ["--no-config", "--extension", "ts", "--node-option", "import=tsx", "--node-option", "conditions=source", "--require", "./test/leaks.ts", "--timeout", timeoutMs, ...files];
const selection = long ? own(extra.length ? extra : ["test/long/**/*.test.ts"], "3600000") : extra.length ? own(extra, "60000") : [];
const mocha = spawn(process.execPath, [join("node_modules", "mocha", "bin", "mocha.js"), "--reporter", join("scripts", "reporter.cjs"), ...selection],
  { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, OCTAVO_TEST_SUMMARY: summaryFile } });

let lingering = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => mocha.kill(signal));
const watch = setInterval(() => {
  const summary = read();
  // Tests are over but the process lives on: something was left open. That is a failure, not a reason to wait forever.
  if (!lingering && summary && Date.now() - summary.endedAt > 30_000) {
    lingering = true;
    process.kill(summary.pid, "SIGKILL"); // mocha runs its tests in a child of its own
  }
}, 1000);

mocha.on("exit", (code, signal) => {
  clearInterval(watch);
  const summary = read();
  rmSync(summaryFile, { force: true });
  if (lingering) console.error("The tests ended but their process did not: a socket, timer or child process was left open.");
  if (!summary) console.error(`The tests did not run to their end (mocha: ${signal ?? `exit code ${code}`}); see above.`);
  const passed = summary?.passed ?? 0;
  const failed = (summary?.failed ?? 1) + (lingering ? 1 : 0);
  if (summary?.skipped) console.log(`${summary.skipped} skipped`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 || code !== 0 ? 1 : 0;
});

function read() {
  try {
    return JSON.parse(readFileSync(summaryFile, "utf8"));
  } catch {
    return undefined; // not written yet
  }
}

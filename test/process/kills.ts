/** Runs of real workers, each of which loses one at a seeded point of a step; what they leave behind is looked for by the caller's kernel. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { builtins } from "../../plugins/index.ts";
import { localLauncher } from "../../cluster/launcher/local.ts";
import { type RuntimeError, checkRecipe, createRegistry, loadRecipe } from "../../runtime/index.ts";
import { startPipeline } from "../../runtime/pipeline/run/run.ts";
import { childrenOf, lives, miniRecipe, root, until } from "./octavo.ts";

/** From a kill to the end of the run, of its processes and of their sockets. */
const mostMs = 10_000;

interface Point { seed: number; victim: number; step: number; part: number }

/** Lehmer's generator: the same points every run. `part` of a step's time is from 0 to 1. */
function pointsOf(count: number, workers: number): Point[] {
  let state = 20_261;
  const random = (n: number): number => (state = (state * 48_271) % 2_147_483_647) % n;
  return Array.from({ length: count }, (_, seed) => ({ seed, victim: random(workers), step: random(3), part: random(1000) / 1000 }));
}

/** Kills `count` workers, one per run, and checks each time that the run ends soon, names the dead, and leaves nothing. */
export async function killWorkers(count: number, told: (said: string) => void = () => {}): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "octavo-kills-"));
  const checked = await checkRecipe(loadRecipe(miniRecipe, ["train.steps=100", "train.batch=4", "train.microbatches=2"]), createRegistry(builtins));
  const entry = { command: process.execPath, args: [join(root, "dist/cluster/agent/worker.js")] };
  try {
    const names = checked.schedule.ranks;
    for (const point of pointsOf(count, names.length)) {
      const victim = names[point.victim], what = `kill ${point.seed}: ${victim} after ${point.part} of step ${point.step}`;
      const before = openHere(), launcher = localLauncher({ worker: entry });
      const run = await startPipeline(checked, { launcher, runFolder: folder, seed: 3, lane: point.seed % 3 === 0 ? "zeromq" : "shared-memory" });
      const pids = run.processes.map((one) => one.pid!), pid = pids[run.processes.findIndex(({ stage }) => stage === victim)];
      let stepMs = 0;
      for (let step = 0; step < 1 + point.step; step++) {
        const begun = performance.now();
        await run.step(step);
        stepMs = performance.now() - begun;
      }
      const steps = (async () => { for (let step = 1 + point.step; step < 100; step++) await run.step(step); })();
      let killed = 0;
      const timer = setTimeout(() => (process.kill(pid, "SIGKILL"), killed = performance.now()), point.part * stepMs);
      const failure = await steps.then(() => undefined, (error: unknown) => error as RuntimeError);
      clearTimeout(timer);
      const learntMs = performance.now() - killed;
      await run.close();
      const endedMs = performance.now() - killed;
      told(`${what}: learnt after ${learntMs.toFixed(0)} ms, ended after ${endedMs.toFixed(0)} ms`);
      assert.ok(endedMs < mostMs, `${what}: ended after ${endedMs} ms`);
      assert.equal(failure?.code, "ERR_RUN", what);
      assert.match(failure!.message, new RegExp(`worker ${victim} \\(.*process ${pid} on .*\\) was killed by SIGKILL`), what);
      assert.equal(failure!.message.split("\n").length, 1, `${what}: one paragraph`);
      assert.deepEqual(pids.filter(lives), [], `${what}: processes left`);
      assert.deepEqual(childrenOf(process.pid).filter((child) => /octavo worker/.test(titleOf(child))), [], `${what}: children left`);
      // ZeroMQ closes the sockets of links in a thread of its own, soon after we do
      await until(`${what}: shared memory ${before.memory} and sockets ${before.sockets} as before`, () => isDeepStrictEqual(openHere(), before), mostMs);
      assert.deepEqual(readdirSync(tmpdir()).filter((name) => name.startsWith(`octavo-${process.pid}-`)), [], `${what}: socket folders left`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return ""; // has ended
  }
}

/** Shared memory and sockets that this process has open; what the library of sockets keeps for itself is open from the first run on. */
function openHere(): { memory: number; sockets: number } {
  const targets = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the folder's own
    }
  });
  return { memory: targets.filter((target) => target.includes("memfd:")).length, sockets: targets.filter((target) => target.startsWith("socket:")).length };
}

/** Runs the built command as a user would, in processes of their own, and looks at what it leaves behind. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const command = join(root, "dist/cluster/cli/main.js");
export const miniRecipe = join(root, "test/recipes/mini.yaml");

export interface Event extends Record<string, unknown> { event: string }
export interface Ended { code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string; events: Event[] }

export interface Running {
  child: ChildProcess;
  /** Resolves with the first event that `wanted` accepts; rejects when the command ends without it. */
  event(wanted: (event: Event) => boolean): Promise<Event>;
  ended: Promise<Ended>;
}

/** Starts `octavo ARGS --json`; the environment gets a TMPDIR of its own so that leftovers show. */
export function start(args: readonly string[], o: { env?: Record<string, string> } = {}): Running {
  const child = spawn(process.execPath, [command, ...args, "--json"], { cwd: root, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...o.env } });
  const events: Event[] = [];
  const waiting: { wanted: (event: Event) => boolean; resolve(event: Event): void; reject(error: Error): void }[] = [];
  let stdout = "", stderr = "", rest = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines.filter(Boolean)) {
      const event = JSON.parse(line) as Event;
      events.push(event);
      for (const each of waiting.filter(({ wanted }) => wanted(event))) {
        waiting.splice(waiting.indexOf(each), 1);
        each.resolve(event);
      }
    }
  });
  const ended = new Promise<Ended>((resolve) => child.on("close", (code, signal) => {
    for (const { reject } of waiting.splice(0)) reject(new Error(`ended (${signal ?? code}) before the event came:\n${stderr}\n${stdout.slice(-2000)}`));
    resolve({ code, signal, stdout, stderr, events });
  }));
  return {
    child, ended,
    event: (wanted) => {
      const seen = events.find(wanted);
      return seen ? Promise.resolve(seen) : new Promise((resolve, reject) => waiting.push({ wanted, resolve, reject }));
    },
  };
}

export const octavo = (args: readonly string[], o: { env?: Record<string, string> } = {}): Promise<Ended> => start(args, o).ended;

/** The losses of a run by step, to the last bit. */
export const losses = (ended: Ended): Map<number, number> =>
  new Map(ended.events.filter((event) => event.event === "step").map((event) => [event.step as number, event.loss as number]));

export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "octavo-test-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Whether a process is there and not a zombie. */
export function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Looks again every few milliseconds until `done` holds; throws after `withinMs`: a bound on the system under test, no way to wait for it. */
export async function until(what: string, done: () => boolean, withinMs: number): Promise<number> {
  const begun = performance.now();
  while (!done()) {
    if (performance.now() - begun > withinMs) throw new Error(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - begun;
}

/** Names of shared memory and socket files that belong to octavo, anywhere they could be. */
export function leftovers(temporary: string): string[] {
  const named = (folder: string, pattern: RegExp): string[] => readdirSync(folder).filter((name) => pattern.test(name)).map((name) => join(folder, name));
  return [...named("/dev/shm", /octavo/i), ...named(temporary, /^octavo-/)];
}

/** The living children of a process. */
export function childrenOf(parent: number): number[] {
  return readdirSync("/proc").map(Number).filter((pid) => {
    if (!pid) return false;
    try {
      return Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")[1]) === parent && lives(pid);
    } catch {
      return false; // ended while we looked
    }
  });
}

export function groupOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")[2]);
}

export function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
}

export function openMemfds(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
      return target.includes("memfd:") ? [target] : [];
    } catch {
      return [];
    }
  });
}

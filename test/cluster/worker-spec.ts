import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { WorkerSpec } from "../../runtime/index.ts";
import type { Entry } from "../../cluster/launcher/entries.ts";

/** The trivial program that stands for a worker. */
export const trivialWorker: Entry = { command: process.execPath, args: [fileURLToPath(new URL("fixtures/worker.mjs", import.meta.url))] };

const folders: string[] = [];
process.once("exit", () => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** A folder that goes when the tests end. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "octavo-cluster-"));
  folders.push(folder);
  return folder;
}

export function workerSpec(name: string, folder: string): WorkerSpec {
  return { name, title: `octavo worker ${name}`, runFolder: folder, threads: 1, control: { node: "control", socketDir: folder }, logFile: join(folder, "logs", `${name}.log`) };
}

/** State and title of a process, read from the system; undefined when it is gone or only waits to be reaped. */
export function processTitle(pid: number): string | undefined {
  try {
    if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return undefined;
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    return undefined;
  }
}

/** Looks again until `condition` holds; the test's own timeout ends the wait. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

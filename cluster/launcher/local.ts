import type { Launcher, WorkerHandle, WorkerSpec } from "../../runtime/index.ts";
import { program, type Entry } from "./entries.ts";
import { startChild } from "./process.ts";

export interface LocalOptions {
  /** The program that becomes a worker; tests put a trivial one here. */
  worker?: Entry;
}

/** Workers as child processes of this one. They die with it; `close` kills those that still live and waits for their end. */
export function localLauncher(options: LocalOptions = {}): Launcher {
  const handles = new Set<WorkerHandle>();
  return {
    name: "local",
    async spawn(specs) {
      const started = await Promise.allSettled(specs.map((spec) => startWorker(spec, options.worker)));
      for (const one of started) if (one.status === "fulfilled") track(one.value);
      const refused = started.find((one) => one.status === "rejected");
      if (refused) {
        await this.close();
        throw refused.reason;
      }
      return started.map((one) => (one as PromiseFulfilledResult<WorkerHandle>).value);
    },
    async close() {
      const living = [...handles];
      for (const handle of living) handle.kill("SIGKILL");
      await Promise.all(living.map((handle) => handle.exited));
    },
  };

  function track(handle: WorkerHandle): void {
    handles.add(handle);
    void handle.exited.then(() => handles.delete(handle));
  }
}

/** One worker here, by whoever is its parent: the launcher itself or an agent. */
export async function startWorker(spec: WorkerSpec, entry: Entry = program("cluster/agent/worker")): Promise<WorkerHandle> {
  const child = await startChild({ title: spec.title, entry, logFile: spec.logFile, env: workerEnvironment(spec) });
  return { name: spec.name, pid: child.pid, host: "localhost", exited: child.exited, kill: (signal) => child.kill(signal as NodeJS.Signals | undefined) };
}

/**
 * What a worker is told by its environment. Waiting threads must sleep, not spin: four workers with two spinning threads each
 * on two cores lose five sixths of the speed.
 */
export function workerEnvironment(spec: WorkerSpec): Record<string, string> {
  return {
    OCTAVO_WORKER: JSON.stringify(spec),
    OMP_WAIT_POLICY: "passive",
    GOMP_SPINCOUNT: "0",
    OMP_NUM_THREADS: String(spec.threads),
  };
}

/**
 * Workers through the control plane: a coordinator and agents, each a process of its own, speaking gRPC on loopback.
 * The same contract as the local launcher; coordinator and agents die with this process, workers with their agent.
 */
import { randomBytes } from "node:crypto";
import { fromFailure, RuntimeError, toFailure, type FailureData, type Launcher, type WorkerHandle, type WorkerSpec } from "../../runtime/index.ts";
import { connectCoordinator, type CoordinatorClient } from "../control/client.ts";
import { tokenVariable, type AgentInfo, type Placement, type Worker, type WorkerExited } from "../control/protocol.ts";
import type { ClusterDescription } from "./cluster-file.ts";
import { program, type Entry } from "./entries.ts";
import { describeExit, startChild, type Child, type ChildExit } from "./process.ts";

export interface ClusterLauncher extends Launcher {
  coordinator: { address: string; pid: number };
  agents(): Promise<AgentInfo[]>;
  readLog(worker: WorkerHandle, maxBytes: number): Promise<string>;
}
export interface ClusterOptions { /** The program with the commands `coordinator` and `agent`. */ program?: Entry }

/** Starts the control plane; settles when every agent has registered. Throws ERR_CLUSTER. */
export async function clusterLauncher(description: ClusterDescription, options: ClusterOptions = {}): Promise<ClusterLauncher> {
  const entry = options.program ?? program("cluster/cli/main");
  const env = { [tokenVariable]: randomBytes(24).toString("hex") };
  const children: Child[] = [];
  let client: CoordinatorClient | undefined;
  const ids = new WeakMap<WorkerHandle, string>();
  const living = new Set<WorkerHandle>();

  const close = async (): Promise<void> => {
    client?.close();
    for (const child of children) child.kill("SIGKILL");
    await Promise.all([...children, ...living].map((one) => one.exited));
  };
  const start = async (title: string, args: string[]): Promise<{ child: Child; said: { address: string } }> => {
    const { child, said } = await startProgram(title, entry, args, env, (one) => children.push(one));
    return { child, said: said as { address: string } };
  };

  try {
    const { child: coordinator, said: { address } } = await start("octavo coordinator", ["coordinator", "--port", String(description.port), "--json"]);
    const connected = (client = connectCoordinator(address, env[tokenVariable]));
    const names = Array.from({ length: description.agents }, (_, i) => `agent-${i + 1}`);
    await Promise.all(names.map((name) => start(`octavo ${name}`, ["agent", "--coordinator", address, "--name", name, "--json"])));
    return {
      name: `local cluster of ${description.agents} agent${description.agents === 1 ? "" : "s"}`,
      coordinator: { address, pid: coordinator.pid },
      agents: () => connected.listAgents(),
      readLog: async (worker, maxBytes) => Buffer.from(await connected.readLog(ids.get(worker) ?? "", maxBytes)).toString(),
      async spawn(specs) {
        const { launchId, placements } = await connected.launch(specs.map(toWorker));
        return follow(connected, launchId, specs, placements);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }

  function follow(connected: CoordinatorClient, launchId: string, specs: readonly WorkerSpec[], placements: readonly Placement[]): WorkerHandle[] {
    const settle = new Map<string, (exit: ChildExit) => void>();
    const handles = placements.map(({ workerId, agent, pid }, i): WorkerHandle => {
      const exited = new Promise<ChildExit>((resolve) => settle.set(workerId, resolve));
      const handle: WorkerHandle = {
        name: specs[i].name, pid, host: agent, exited,
        // A worker whose coordinator is gone dies with its agent: there is nobody left to tell, and nothing left to do.
        kill: (signal = "SIGKILL") => void connected.stop(workerId, signal).catch(() => {}),
      };
      ids.set(handle, workerId);
      living.add(handle);
      void exited.then(() => living.delete(handle));
      return handle;
    });
    const lost = (failure: FailureData): void => {
      for (const resolve of settle.values()) resolve({ code: null, signal: null, stderrTail: failure.message, failure });
    };
    connected.watch(launchId, (exit) => settle.get(exit.workerId)?.(toExit(exit))).then(
      () => lost(toFailure(new RuntimeError("ERR_CLUSTER", `The coordinator ended launch ${launchId} without saying how this worker ended.`))),
      (error) => lost(toFailure(error)),
    );
    return handles;
  }
}

function toWorker(spec: WorkerSpec): Worker {
  return { name: spec.name, title: spec.title, threads: spec.threads, specJson: JSON.stringify(spec) };
}

function toExit(exit: WorkerExited): ChildExit {
  const failure = exit.failureJson ? (JSON.parse(exit.failureJson) as FailureData) : undefined;
  const known = exit.code !== undefined || exit.signal !== undefined;
  // A worker lost with its agent left neither code nor signal; then the failure is the whole story.
  return { code: exit.code ?? null, signal: exit.signal ?? null, stderrTail: known ? exit.stderrTail : (failure?.message ?? exit.stderrTail), failure };
}

/** Starts one of our commands and waits for its first line of JSON; what it says instead is the error. */
async function startProgram(title: string, entry: Entry, args: string[], env: Record<string, string>, started: (child: Child) => void): Promise<{ child: Child; said: unknown }> {
  let hear = (_: string): void => {};
  const first = new Promise<string>((resolve) => (hear = resolve));
  const child = await startChild({ title, entry, args, env, onLine: (line) => hear(line) });
  started(child);
  const outcome = await Promise.race([first, child.exited]);
  if (typeof outcome === "string") {
    const said = JSON.parse(outcome) as { event: string; failure?: FailureData };
    if (said.event !== "failure") return { child, said };
    throw fromFailure(said.failure!);
  }
  throw new RuntimeError("ERR_CLUSTER", `${title} ${describeExit(outcome)}`, { title }, outcome.failure ? { cause: fromFailure(outcome.failure) } : undefined);
}

/**
 * Child processes that form one group, for tests of what runs across processes. A body is an exported function
 * `(group, argument) => Promise<result>` of a module of its own (one without mocha's words); arguments and results may hold typed arrays.
 * ```
 * const group = await startGroup({ size: 3, module: new URL("./bodies.ts", import.meta.url) });
 * const results = await group.run("sumOfRanks", { n: 10 });   // by rank; rejects with the first failure
 * await group.end();
 * ```
 * A body that leaves tensors behind fails.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type FailureData, fromFailure } from "../../../runtime/errors.ts";
import type { GroupOffer } from "../../../runtime/parallel/groups/collectives.ts";

export interface GroupOptions {
  size: number;
  module: URL;
  name?: string;
  /** What each is started with: the words before `node`, and the address where it listens. */
  place?: (rank: number) => { prefix?: string[]; address?: string };
}

type Answer = { offer: GroupOffer } | { done: unknown } | { failure: FailureData };
/** What became of a body in one process. */
export type Outcome<R> = { result: R } | { error: Error };

export interface GroupProcesses {
  readonly processes: readonly ChildProcess[];
  readonly offers: readonly GroupOffer[];
  /** The results by rank. Throws the failure of the lowest rank that failed. */
  run<R>(body: string, argument?: unknown): Promise<R[]>;
  /** By rank, failures too. `argument(rank)` when they differ. A process that ends is a failure. */
  outcomes<R>(body: string, argument?: (rank: number) => unknown): Promise<Outcome<R>[]>;
  end(): Promise<void>;
}

export async function startGroup({ size, module, name = "under test", place = () => ({}) }: GroupOptions): Promise<GroupProcesses> {
  const members = Array.from({ length: size }, (_, rank) => `member-${rank}`);
  const program = fileURLToPath(new URL("./group-process.ts", import.meta.url));
  const processes = members.map((_, rank) => {
    const { prefix = [], address } = place(rank);
    const options = JSON.stringify({ module: module.href, name, rank, size, members, address });
    const [command, ...words] = [...prefix, process.execPath, "--import", "tsx", "--conditions=source", program, options];
    return spawn(command, words, { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
  });
  const each = <T>(work: (rank: number) => Promise<T>): Promise<T[]> => Promise.all(members.map((_, rank) => work(rank)));
  const giveUp = (error: Error): never => {
    for (const child of processes) child.kill("SIGKILL");
    throw error;
  };
  const ask = async (rank: number, order: object): Promise<Answer> => {
    const answer = answerOf(processes[rank]);
    if (processes[rank].connected) processes[rank].send(order, () => {}); // a process that is gone answers by its end
    return answer;
  };

  const offers = await each(async (rank) => (resultOf(await answerOf(processes[rank])) as { offer: GroupOffer }).offer).catch(giveUp);
  await each(async (rank) => resultOf(await ask(rank, { offers }))).catch(giveUp);

  const outcomes = <R>(body: string, argument: (rank: number) => unknown = () => undefined): Promise<Outcome<R>[]> =>
    each(async (rank) => {
      const answer = await ask(rank, { body, argument: argument(rank) });
      return "failure" in answer ? { error: fromFailure(answer.failure) } : { result: (answer as { done: R }).done };
    });
  return {
    processes, offers, outcomes,
    async run<R>(body: string, argument?: unknown) {
      const all = await outcomes<R>(body, () => argument);
      return all.map((outcome) => {
        if ("error" in outcome) throw outcome.error;
        return outcome.result;
      });
    },
    async end() {
      await each(async (rank) => {
        const child = processes[rank];
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = once(child, "exit");
        if (child.connected) child.send({ close: true }, () => {});
        const hung = setTimeout(() => child.kill("SIGKILL"), 20_000);
        const [code, signal] = await exited;
        clearTimeout(hung);
        if (code !== 0) throw new Error(`member ${rank} ended with ${signal ?? code}`);
      });
    },
  };
}

function answerOf(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve) => {
    const heard = (answer: Answer): void => (child.off("exit", ended), resolve(answer));
    const ended = (code: number | null, signal: string | null): void => {
      child.off("message", heard);
      resolve({ failure: { code: "ERR_DEAD", name: "RuntimeError", message: `the process ended with ${signal ?? code}`, details: {} } });
    };
    if (child.exitCode !== null || child.signalCode !== null) return ended(child.exitCode, child.signalCode);
    child.once("message", heard);
    child.once("exit", ended);
  });
}

function resultOf(answer: Answer): unknown {
  if ("failure" in answer) throw fromFailure(answer.failure);
  return answer;
}

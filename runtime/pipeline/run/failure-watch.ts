import type { ActorSystem } from "../../actor/index.ts";
import { type Clock, realClock } from "../../clock.ts";
import { RuntimeError, explain, toFailure } from "../../errors.ts";
import type { CheckResult } from "../plan/check.ts";
import type { WorkerExit, WorkerHandle } from "./launcher.ts";
import { Pulse, type PulseOptions, vitalsOf } from "./pulse.ts";
import { rankNode } from "./rank.ts";

/** Codes of those who merely noticed that somebody else is gone; ERR_LANE: the memory that a tensor was in may have gone with its sender. */
const bystanderCodes = new Set(["ERR_DEAD", "ERR_UNREACHABLE", "ERR_ABORTED", "ERR_LANE", "ERR_COLLECTIVE"]);

/** How long a bystander's complaint waits for the death that caused it to be reported by the process's parent. */
const evidenceMs = 3000;

/**
 * Watches the processes of a run and finds the first cause when something fails.
 * A worker that died is the cause; those whose messages it left unanswered only waited.
 */
export class FailureWatch {
  #step = -1;
  #closing = false;
  #pulse: Pulse | undefined;
  #handles: readonly WorkerHandle[] = [];
  #fail!: (error: unknown) => void;
  readonly #failed: Promise<never>;

  constructor(private readonly checked: Pick<CheckResult, "recipe" | "plan" | "layout">, private readonly clock: Clock = realClock) {
    this.#failed = new Promise((_, reject) => (this.#fail = reject));
    this.#failed.catch(() => undefined); // read through guard()
  }

  /** Reports what dies, and tells the message system at once so that nobody waits for the dead. */
  processes(handles: readonly WorkerHandle[], peerDown: (node: string, reason: string) => void): void {
    this.#handles = handles;
    for (const handle of handles) {
      void handle.exited.then((exit) => {
        if (this.#closing) return;
        this.#fail(this.#death(handle, exit));
        peerDown(rankNode(handle.name), `process ${handle.pid} ${ending(exit)}`);
      });
    }
  }

  system(system: ActorSystem): void {
    system.onFailure(({ address, failure }) => {
      if (!this.#closing) this.#fail(new RuntimeError("ERR_RUN", `${address}: ${failure.message}`, { failure }));
    });
  }

  at(step: number): void {
    this.#step = step;
  }

  /** The error of one rank's answer, with its stages, their components and its process named; of a rank that could not be asked, what it is. */
  blame(rank: string, error: unknown): unknown {
    const bystander = error instanceof RuntimeError && bystanderCodes.has(error.code);
    if (bystander && error.details.at === undefined) return error;
    const handle = this.#handles.find(({ name }) => name === rank);
    const components = this.#components(rank);
    return new RuntimeError("ERR_RUN",
      `The run failed ${this.#when()}: worker ${rank} (${this.#holds(rank)}; process ${handle?.pid} on ${handle?.host}) reported: ${explain(error)}`,
      { component: components[0], stage: rank, stages: this.#stages(rank), process: handle?.pid, step: this.#step, failure: toFailure(error), bystander }); // the causes are in the message already
  }

  /** Watches that the ranks live and advance (pulse.ts); one that stands still ends the run. */
  pulse(system: ActorSystem, o: Pick<PulseOptions, "ask" | "work">): void {
    const of = (rank: string): WorkerHandle => this.#handles.find(({ name }) => name === rank)!;
    this.#pulse = new Pulse({
      ...o, clock: system.clock, ranks: this.#handles.map(({ name }) => name),
      vitals: (rank) => vitalsOf(of(rank).pid, "octavo worker"),
      stands: (rank, what) => {
        const { pid, host } = of(rank), components = this.#components(rank);
        this.#fail(new RuntimeError("ERR_RUN", `The run failed ${this.#when()}: worker ${rank} (${this.#holds(rank)}; process ${pid} on ${host}) ${what}. ${this.#waited(rank)}`,
          { component: components[0], stage: rank, stages: this.#stages(rank), process: pid, host, step: this.#step }));
        system.peerDown(rankNode(rank), what, "unreachable");
      },
    });
  }

  /** From now on processes may end. */
  closing(): void {
    this.#closing = true;
    this.#pulse?.stop();
  }

  /** The result of `work`, or the first cause of the run's failure. */
  async guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await Promise.race([work, this.#failed]);
    } catch (error) {
      if (!(error instanceof RuntimeError) || !(bystanderCodes.has(error.code) || error.details.bystander === true)) throw this.#named(error);
      // Somebody's peer is gone: its parent is about to say how it ended.
      let cancel: (() => void) | undefined;
      const evidence = new Promise<void>((resolve) => (cancel = this.clock.after(evidenceMs, resolve)));
      await Promise.race([this.#failed, evidence]).finally(() => cancel?.());
      throw this.#named(error);
    }
  }

  #when(): string {
    return this.#step < 0 ? "before the first step" : `at step ${this.#step}`;
  }

  #stages(rank: string): string[] {
    return this.checked.layout.ranks.find(({ name }) => name === rank)?.stages ?? [];
  }

  #components(rank: string): string[] {
    const { recipe, plan } = this.checked;
    // as the recipe lists them: the first is the one the stage is shown by
    return this.#stages(rank).flatMap((name) => recipe.stages?.[name] ?? plan.stages.find((stage) => stage.name === name)?.components ?? []);
  }

  /** For people: of one stage its components, of several also the stages. */
  #holds(rank: string): string {
    const stages = this.#stages(rank);
    return `${stages.length > 1 ? `stages ${stages.join(", ")}; ` : ""}components ${this.#components(rank).join(", ")}`;
  }

  #waited(rank: string): string {
    return `The workers ${this.checked.layout.ranks.map(({ name }) => name).filter((name) => name !== rank).join(", ")} only waited for it.`;
  }

  #death(handle: WorkerHandle, exit: WorkerExit): RuntimeError {
    const components = this.#components(handle.name);
    const said = exit.stderrTail.trim();
    return new RuntimeError("ERR_RUN",
      `The run failed ${this.#when()}: worker ${handle.name} (${this.#holds(handle.name)}; process ${handle.pid} on ${handle.host}) ${ending(exit)}.` +
      `${said ? ` Its last words: ${said.split("\n").slice(-12).join("\n  ")}` : ""} ${this.#waited(handle.name)}`,
      { component: components[0], stage: handle.name, stages: this.#stages(handle.name), process: handle.pid, host: handle.host, step: this.#step, code: exit.code, signal: exit.signal });
  }

  #named(error: unknown): unknown {
    if (error instanceof RuntimeError && error.code === "ERR_RUN") return error;
    const failure = toFailure(error);
    return new RuntimeError("ERR_RUN", `The run failed ${this.#when()}: ${explain(error)}`,
      { step: this.#step, failure, processes: this.#handles.map(({ name, pid }) => ({ name, pid })) });
  }
}

function ending({ code, signal }: WorkerExit): string {
  return signal ? `was killed by ${signal}` : `ended with exit code ${code}`;
}

import { readFileSync } from "node:fs";
import type { Clock } from "../../clock.ts";

/** Where a rank is in its schedule; `done` grows from step to step, `at` is for people. */
export interface RankProgress { done: number; at: string }

/** What the system says of a process of this host: one letter (`R` runs, `S` sleeps, `T` was stopped), and the processor time it has had. */
export interface Vitals { state: string; cpuMs: number }

export interface PulseOptions {
  clock: Clock;
  ranks: readonly string[];
  /** Asks a rank, which answers at once whatever it does, unless its event loop stands still. */
  ask(rank: string): Promise<RankProgress>;
  /** Undefined where the process cannot be looked at from here. */
  vitals(rank: string): Vitals | undefined;
  /** Whether ranks have something to advance with, and how many steps they have done. */
  work(): { underWay: boolean; steps: number };
  /** The paragraph's middle: what the rank does not do. Told once. */
  stands(rank: string, what: string): void;
}

/** How often every rank is asked. */
export const beatMs = 1000;
/** A rank that was stopped, or that neither answers nor computes, is given so long, and more where its answers have been slow so far. */
export const leastSilenceMs = 10_000;
/** One that sleeps, or that no one can look at, may wait for a device: longer. */
const leastUnseenMs = 60_000;
/** A schedule in which nothing moves; more where something has taken long so far. No whole step measured yet: `firstMs`. */
const leastStandMs = 60_000, firstMs = 600_000;
/** Times the longest that was measured. */
const [answerPatience, entryPatience] = [20, 50];

interface Heart { asking: boolean; heardMs: number; longestMs: number; cpuMs: number; cpuAtMs: number; progress?: RankProgress }

/**
 * Two facts of health for every rank of a run: its process lives, and the schedule advances.
 *
 * PU-1: a rank whose process was stopped (SIGSTOP, a debugger) stands still: after ten seconds, or twenty times its slowest answer so far. So
 *       does one that neither answers nor uses its processor: after a minute, or as many times. One that computes without answering is busy.
 * PU-2: when no rank has come further for a minute, or fifty times the longest that this took in the steps so far (ten minutes in the first),
 *       the schedule stands still, and the rank that is furthest behind is named with where it is.
 * PU-3: time in which this process itself stood still (Ctrl-Z, a laptop's lid) counts for nobody.
 */
export class Pulse {
  readonly #hearts: Map<string, Heart>;
  #beatAtMs: number;
  #movedMs: number;
  #longestMs = 0;
  #cancel: (() => void) | undefined;

  constructor(private readonly o: PulseOptions) {
    this.#beatAtMs = this.#movedMs = o.clock.now();
    this.#hearts = new Map(o.ranks.map((rank) => [rank, { asking: false, heardMs: this.#beatAtMs, longestMs: 0, cpuMs: -1, cpuAtMs: this.#beatAtMs }]));
    this.#next();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #next(): void {
    const cancel = this.o.clock.after(beatMs, () => this.#beat());
    cancel.keepAlive?.(false);
    this.#cancel = cancel;
  }

  #beat(): void {
    const now = this.o.clock.now(), forgiven = now - this.#beatAtMs > 3 * beatMs;
    this.#beatAtMs = now;
    if (forgiven) this.#forgive(now);
    const { underWay, steps } = this.o.work();
    if (!underWay) this.#movedMs = now;
    for (const [rank, heart] of this.#hearts) {
      if (!heart.asking) void this.#ask(rank, heart);
      const silent = this.#silence(rank, heart, now);
      if (silent) return this.#stands(rank, silent);
    }
    if (now - this.#movedMs > Math.max(steps > 0 ? leastStandMs : firstMs, entryPatience * this.#longestMs)) {
      const [rank, { progress }] = [...this.#hearts].sort(([, a], [, b]) => (a.progress?.done ?? 0) - (b.progress?.done ?? 0))[0];
      return this.#stands(rank, `does not advance: no worker has come further for ${seconds(now - this.#movedMs)}, and it is the furthest behind, at ${progress?.at ?? "its beginning"}`);
    }
    this.#next();
  }

  #stands(rank: string, what: string): void {
    this.stop();
    this.o.stands(rank, what);
  }

  async #ask(rank: string, heart: Heart): Promise<void> {
    heart.asking = true;
    const asked = this.o.clock.now();
    try {
      const progress = await this.o.ask(rank);
      const now = this.o.clock.now();
      heart.longestMs = Math.max(heart.longestMs, now - asked);
      heart.heardMs = now;
      if (progress.done !== heart.progress?.done) this.#moved(now);
      heart.progress = progress;
    } catch {
      return; // its death is told by others; here it is silence
    } finally {
      heart.asking = false;
    }
  }

  #moved(now: number): void {
    this.#longestMs = Math.max(this.#longestMs, now - this.#movedMs);
    this.#movedMs = now;
  }

  /** Why a rank that has not answered stands still; undefined while it may be busy. */
  #silence(rank: string, heart: Heart, now: number): string | undefined {
    const silentMs = now - heart.heardMs;
    if (silentMs <= 2 * beatMs) return undefined;
    const vitals = this.o.vitals(rank);
    if (vitals && vitals.cpuMs > heart.cpuMs) [heart.cpuMs, heart.cpuAtMs] = [vitals.cpuMs, now];
    const patienceMs = Math.max(leastSilenceMs, answerPatience * heart.longestMs);
    const at = heart.progress ? `, at ${heart.progress.at}` : "";
    if (vitals?.state === "T" || vitals?.state === "t") {
      return silentMs > patienceMs ? `stands still: its process lives, but was stopped (SIGSTOP or a debugger), and has not answered for ${seconds(silentMs)}${at}` : undefined;
    }
    const idleMs = vitals ? Math.min(silentMs, now - heart.cpuAtMs) : silentMs;
    if (idleMs <= Math.max(leastUnseenMs, patienceMs)) return undefined;
    return vitals ? `stands still: its process lives (state ${vitals.state}), but has neither answered nor computed for ${seconds(idleMs)}${at}`
      : `is unreachable: its process was not reported dead, but has not answered for ${seconds(silentMs)}${at}`;
  }

  #forgive(now: number): void {
    this.#movedMs = now;
    for (const heart of this.#hearts.values()) heart.heardMs = heart.cpuAtMs = now;
  }
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;

/** From /proc; undefined when there is no such process here, or it is not called `title`. */
export function vitalsOf(pid: number, title: string): Vitals | undefined {
  try {
    if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith(title)) return undefined;
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
    return { state: fields[0], cpuMs: 10 * (Number(fields[11]) + Number(fields[12])) }; // in ticks of 10 ms, as Linux tells it everywhere
  } catch {
    return undefined; // it has ended, or lives on another host
  }
}

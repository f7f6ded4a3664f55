/**
 * Runs a schedule of ranks on paper: when everything happens, how long ranks stand still, how much they remember.
 *
 * RM-1: a rank computes its entries in order, one at a time; an entry starts when what it needs has arrived (RP-1, RP-2).
 * RM-2: a schedule that cannot finish is refused (ERR_SCHEDULE): every waiting rank with its entry and the partner that is missing, and the
 *       rows around the first.
 * RM-3: with a core per rank one pass in the order of dependencies, some 50 ns per entry; ranks that share cores are simulated in the
 *       order of time (`shared-cores.ts`). Both give the same times where cores suffice.
 * RM-4: an activation is remembered from the start of its F to the end of its B, or of its W where B is split.
 */
import { RuntimeError } from "../../errors.ts";
import type { RankCosts } from "./progress.ts";
import { Progress, noCredit } from "./progress.ts";
import type { RankSchedule } from "./schedule.ts";
import { formatEntry, formatRows, kindB, kindF, kindW, rankAt, stageNumbers } from "./schedule.ts";
import { shareCores } from "./shared-cores.ts";

export interface RankSimulationOptions {
  /** Per stage: bytes that one microbatch leaves between F and its backward. */
  activationBytes?: Float64Array;
  /** Keep when every entry started and ended; without it only sums. */
  record?: boolean;
  /** Let no more messages be under way than the edges have credits for, as the running ranks do. */
  credits?: boolean;
  /** Ranks that compute on common cores. Ranks named nowhere have one of their own. */
  hosts?: readonly Host[];
}

export interface Host { ranks: readonly number[]; cores: number }

export interface RankSimulation {
  makespan: number;
  /** Share of the time in which ranks with a backward stand still, over all of them. */
  bubble: number;
  /** Per rank: time with work under way; most microbatches remembered (of all its stages); most bytes of them. */
  busy: Float64Array;
  peakMicrobatches: Int32Array;
  peakBytes: Float64Array;
  /** Per stage: most microbatches remembered; 0 where there is no backward. */
  stageMicrobatches: Int32Array;
  /** Per rank and entry; only when recorded. */
  starts?: Float64Array[];
  ends?: Float64Array[];
}

/** Costs in forwards of one stage: F 1, B 2, I 1, W 1; what only runs forward costs nothing. `stagesPerRank`: divided by it the stages of a rank. */
export function equalCosts({ stages }: Pick<RankSchedule, "stages">, stagesPerRank = 1): RankCosts {
  const compute = new Float64Array(stages.length * 4);
  stages.forEach(({ backward }, stage) => { if (backward) compute.set([1, 2, 1, 1].map((cost) => cost / stagesPerRank), stage * 4); });
  return { compute };
}

/** Throws ERR_SCHEDULE on a deadlock (RM-2). */
export function simulateRanks(schedule: RankSchedule, costs: RankCosts, o: RankSimulationOptions = {}): RankSimulation {
  const { entries, stages } = schedule;
  const progress = new Progress(schedule, costs, o.credits);
  const times = { starts: o.record ? entries.map((list) => new Float64Array(list.length)) : undefined, ends: o.record ? entries.map((list) => new Float64Array(list.length)) : undefined };
  const played = o.hosts ? shareCores(schedule, costs, progress, o.hosts, times) : inOrder(schedule, costs, progress, times);
  const stuck = [...played.next.keys()].filter((rank) => played.next[rank] < entries[rank].length);
  if (stuck.length > 0) throw deadlock(schedule, progress, stuck, played.next);
  const makespan = played.clock.reduce((latest, t) => Math.max(latest, t), 0);
  const computing = new Set(stages.filter((stage) => stage.backward).flatMap(({ rank, copies = 1 }) => Array.from({ length: copies }, (_, copy) => rank + copy)));
  let worked = 0;
  for (const rank of computing) worked += played.busy[rank];
  return {
    makespan, busy: played.busy, ...remembered(schedule, o.activationBytes), ...times,
    bubble: computing.size === 0 || makespan === 0 ? 0 : 1 - worked / (computing.size * makespan),
  };
}

/**
 * The schedule with as many credits as it cannot do without: those of the plan, doubled for every edge that would keep it from finishing.
 * Throws ERR_SCHEDULE on a deadlock that no credit resolves (RM-2).
 */
export function withCredits(schedule: RankSchedule): RankSchedule {
  for (let found = schedule; ; ) {
    try {
      simulateRanks(found, equalCosts(found), { credits: true });
      return found;
    } catch (error) {
      const waiting = error instanceof RuntimeError ? (error.details as { waiting?: Stuck[] }).waiting ?? [] : [];
      const short = new Set(waiting.flatMap(({ edge }) => edge ?? []));
      if (short.size === 0) throw error;
      found = { ...found, edges: found.edges.map((edge, i) => (short.has(i) ? { ...edge, credits: edge.credits * 2 } : edge)) };
    }
  }
}

export interface Times { starts: Float64Array[] | undefined; ends: Float64Array[] | undefined }
/** Per rank: the entry it stopped at, when it got there, how long it worked. */
export interface Played { next: Int32Array; clock: Float64Array; busy: Float64Array }

/** Every rank goes as far as it can; one that must wait is woken by what it waits for. */
function inOrder({ entries, stages, microbatches }: RankSchedule, { compute }: RankCosts, progress: Progress, { starts, ends }: Times): Played {
  const numRanks = entries.length;
  const next = new Int32Array(numRanks), clock = new Float64Array(numRanks), busy = new Float64Array(numRanks);
  const waitsFor = new Int32Array(numRanks).fill(-1);
  const rankOf = Int32Array.from(stages, (stage) => stage.rank), copies = Int32Array.from(stages, (stage) => stage.copies ?? 1);
  // who may wait for F of a stage are the stages after it on any edge; for its backward, the stages before it on edges with a gradient
  const listeners = listenersOf(progress, stages.length);
  const awake = Array.from({ length: numRanks }, (_, i) => numRanks - 1 - i);
  for (let rank = awake.pop(); rank !== undefined; rank = awake.pop()) {
    const list = entries[rank];
    let at = next[rank], now = clock[rank], worked = busy[rank];
    for (; at < list.length; at++) {
      const entry = list[at], kind = entry & 3, cell = entry >>> 2, stage = (cell / microbatches) | 0;
      const ready = progress.ready(entry);
      if (ready < 0) {
        waitsFor[rank] = progress.missing;
        break;
      }
      const cost = compute[stage * 4 + kind], start = ready > now ? ready : now;
      for (const freed of progress.begin(entry, start)) if (waitsFor[freed] === noCredit) waitsFor[freed] = -1, awake.push(freed);
      now = start + cost;
      worked += cost;
      progress.done(entry, now);
      if (starts) starts[rank][at] = start, ends![rank][at] = now;
      if (kind === kindW) continue;
      const key = cell * 2 + (kind === kindF ? 0 : 1), who = kind === kindF ? listeners.forward[stage] : listeners.backward[stage];
      for (let i = 0; i < who.length; i++) {
        const other = rankOf[who[i]] + (copies[who[i]] === 1 ? 0 : (((cell - stage * microbatches) * copies[who[i]]) / microbatches) | 0); // `rankAt`
        if (waitsFor[other] === key) waitsFor[other] = -1, awake.push(other);
      }
    }
    next[rank] = at, clock[rank] = now, busy[rank] = worked;
  }
  return { next, clock, busy };
}

function listenersOf({ before, after }: Progress, numStages: number): { forward: number[][]; backward: number[][] } {
  const forward: number[][] = Array.from({ length: numStages }, () => []), backward: number[][] = Array.from({ length: numStages }, () => []);
  for (let stage = 0; stage < numStages; stage++) {
    for (let i = before.from[stage]; i < before.from[stage + 1]; i++) forward[before.stage[i]].push(stage);
    for (let i = after.from[stage]; i < after.from[stage + 1]; i++) backward[after.stage[i]].push(stage);
  }
  return { forward, backward };
}

/** Peaks follow from the order alone: between F and B or W the activation is there (RM-4). */
function remembered({ entries, stages, microbatches }: RankSchedule, bytes?: Float64Array): Pick<RankSimulation, "peakMicrobatches" | "peakBytes" | "stageMicrobatches"> {
  const peakMicrobatches = new Int32Array(entries.length), peakBytes = new Float64Array(entries.length);
  const stageMicrobatches = new Int32Array(stages.length), lives = new Int32Array(stages.length);
  const keeps = Uint8Array.from(stages, (stage) => Number(stage.backward));
  entries.forEach((list, rank) => {
    let [live, held, most, mostHeld] = [0, 0, 0, 0];
    for (let at = 0; at < list.length; at++) {
      const kind = list[at] & 3, stage = ((list[at] >>> 2) / microbatches) | 0, size = bytes ? bytes[stage] : 0;
      if (keeps[stage] === 0) { if (size > mostHeld) mostHeld = size; continue; }
      if (kind === kindF) {
        live++, held += size;
        if (++lives[stage] > stageMicrobatches[stage]) stageMicrobatches[stage] = lives[stage];
      }
      if (live > most) most = live;
      if (held > mostHeld) mostHeld = held;
      if (kind === kindB || kind === kindW) live--, lives[stage]--, held -= size;
    }
    peakMicrobatches[rank] = most, peakBytes[rank] = mostHeld;
  });
  return { peakMicrobatches, peakBytes, stageMicrobatches };
}

/** Why a rank stands still: which entry, for what, and who would have to give it. */
interface Stuck { rank: string; entry: number; action: string; missing: string; partner: string; /** Where it waits for a credit: of this edge. */ edge?: number }

function deadlock(schedule: RankSchedule, progress: Progress, stuck: readonly number[], next: Int32Array): RuntimeError {
  const { ranks } = schedule, partner = new Map<number, number>();
  const waiting = stuck.map((rank): Stuck => {
    const { from, ...found } = whatIsMissing(schedule, progress, rank, next[rank]);
    partner.set(rank, from);
    return { rank: ranks[rank], entry: next[rank], action: formatEntry(schedule, schedule.entries[rank][next[rank]]), partner: ranks[from], ...found };
  });
  const walk: number[] = [];
  for (let here = stuck[0]; !walk.includes(here); here = partner.get(here)!) walk.push(here);
  const cycle = [...walk.slice(walk.indexOf(partner.get(walk[walk.length - 1])!)), partner.get(walk[walk.length - 1])!].map((rank) => ranks[rank]);
  const shown = waiting.slice(0, 8).map((w) => `  ${w.rank} waits at entry ${w.entry + 1} (${w.action}) ${w.missing}`);
  return new RuntimeError("ERR_SCHEDULE", [
    `schedule ${schedule.name}: expected every rank to finish, found a deadlock ${cycle.join(" -> ")}.`, ...shown, ...(waiting.length > 8 ? [`  and ${waiting.length - 8} more ranks`] : []),
    ...(ranks.length > 16 ? [] : [formatRows(schedule, { rank: stuck[0], entry: next[stuck[0]] })]),
  ].join("\n"), { deadlock: true, cycle, waiting });
}

function whatIsMissing(schedule: RankSchedule, progress: Progress, rank: number, at: number): { missing: string; from: number; edge?: number } {
  const { entries, ranks, stages, edges, microbatches } = schedule, numbers = stageNumbers(stages);
  progress.ready(entries[rank][at]);
  if (progress.missing === noCredit) {
    const { edge, back, receiver } = progress.flow!.stuck(rank), { from, to, credits } = edges[edge];
    return { from: receiver, edge, missing: `until ${ranks[receiver]} takes one of the ${credits} messages on their way to ${stages[back ? from : to].name}` };
  }
  const cell = progress.missing >> 1, gradient = progress.missing & 1, from = rankAt(stages[Math.floor(cell / microbatches)], cell % microbatches, microbatches);
  const wanted = gradient ? entries[from].find((e) => e >>> 2 === cell && (e & 3) !== kindF && (e & 3) !== kindW) : cell * 4 + kindF;
  return { from, missing: `for ${wanted === undefined ? "its backward" : formatEntry(schedule, wanted, numbers)} of ${ranks[from]}` };
}

/**
 * Credits on paper: how far the senders of a schedule have come with their messages. Each pair of ranks has those of the edge, per direction;
 * what stays within a rank needs none (RL-3).
 *
 * CR-1: message k of one direction of an edge between two ranks is out when its sender has computed it and the receiver has taken message k - credits; until
 *       all messages of an entry are out, its rank does not go on.
 * CR-2: a receiver takes all messages of an entry when it begins it (RL-2).
 */
import { type Way, waysOf } from "./messages.ts";
import { type RankSchedule, computeKinds, rankAt } from "./schedule.ts";

/** One direction of one edge between two ranks: what was sent, when each message was taken, and the one that has no credit yet. */
interface Channel { edge: number; back: number; credits: number; sent: number; takenAt: number[]; waiting: { microbatch: number; since: number } | undefined; sender: number; receiver: number }

export class Flow {
  readonly #channels = new Map<number, Channel>();
  readonly #ways: { takes: readonly Way[]; gives: readonly Way[] }[];
  /** Per direction of an edge and microbatch: when its message was out; -1 while it was not. */
  readonly #out: Float64Array;
  /** Per rank: messages without a credit, and when the last of those it had to wait for was out. */
  readonly #unsent: Int32Array;
  readonly #free: Float64Array;

  constructor(private readonly schedule: RankSchedule) {
    const { stages, ranks, microbatches, edges } = schedule;
    this.#unsent = new Int32Array(ranks.length);
    this.#free = new Float64Array(ranks.length);
    this.#out = new Float64Array(edges.length * 2 * microbatches).fill(-1);
    this.#ways = stages.flatMap((_, stage) => { const of = waysOf(schedule, stage); return computeKinds.map((kind) => of[kind]); });
  }

  /** When the message of a microbatch was out; -1 while it was not. */
  out(edge: number, back: number, microbatch: number): number {
    return this.#out[(edge * 2 + back) * this.schedule.microbatches + microbatch];
  }

  /** When the rank can go on, as far as its messages are concerned; -1 while one has no credit. */
  free(rank: number): number {
    return this.#unsent[rank] > 0 ? -1 : this.#free[rank];
  }

  /** The edge on which a rank waits for a credit, and the rank that has to give it back. */
  stuck(rank: number): { edge: number; back: number; receiver: number } {
    return [...this.#channels.values()].find(({ sender, waiting }) => sender === rank && waiting)!;
  }

  /** An entry begins: it takes its messages. -> the ranks that can go on now. */
  begin(entry: number, now: number): number[] {
    const freed: number[] = [];
    for (const channel of this.#crossing(entry, "takes")) {
      channel.takenAt.push(now);
      const { waiting, sender, edge, back } = channel;
      if (!waiting) continue;
      channel.waiting = undefined;
      this.#leaves(edge, back, waiting.microbatch, sender, Math.max(waiting.since, now));
      if (--this.#unsent[sender] === 0) freed.push(sender);
    }
    return freed;
  }

  /** An entry has ended: it gives its messages, those that have a credit at once. */
  end(entry: number, now: number): void {
    const microbatch = (entry >>> 2) % this.schedule.microbatches;
    for (const channel of this.#crossing(entry, "gives")) {
      const { edge, back, sender, takenAt } = channel, needed = channel.sent++ - channel.credits;
      if (needed < takenAt.length) this.#leaves(edge, back, microbatch, sender, needed < 0 ? now : Math.max(now, takenAt[needed]));
      else {
        channel.waiting = { microbatch, since: now };
        this.#unsent[sender]++;
      }
    }
  }

  #leaves(edge: number, back: number, microbatch: number, sender: number, when: number): void {
    this.#out[(edge * 2 + back) * this.schedule.microbatches + microbatch] = when;
    if (when > this.#free[sender]) this.#free[sender] = when;
  }

  /** The channels of an entry's messages that do not stay within its rank. */
  #crossing(entry: number, direction: "takes" | "gives"): Channel[] {
    const { stages, microbatches, edges, ranks } = this.schedule, cell = entry >>> 2, stage = Math.floor(cell / microbatches), microbatch = cell - stage * microbatches;
    const here = rankAt(stages[stage], microbatch, microbatches), found: Channel[] = [];
    for (const way of this.#ways[stage * 4 + (entry & 3)][direction]) {
      const there = rankAt(stages[way.stage], microbatch, microbatches);
      if (there === here) continue;
      const [sender, receiver] = direction === "gives" ? [here, there] : [there, here], back = Number(way.carries === "gradients");
      const key = ((way.edge * 2 + back) * ranks.length + sender) * ranks.length + receiver;
      let channel = this.#channels.get(key);
      if (!channel) this.#channels.set(key, channel = { edge: way.edge, back, credits: edges[way.edge].credits, sent: 0, takenAt: [], waiting: undefined, sender, receiver });
      found.push(channel);
    }
    return found;
  }
}

/**
 * Ranks that share cores, simulated in the order of time: n ranks computing on c cores each go at min(1, c / n) of a core's speed, as an
 * operating system that is fair divides it (processor sharing).
 *
 * SH-1: work is in seconds of a whole core; time passes slower where ranks outnumber cores.
 * SH-2: an event is a rank that begins or ends; between two events every speed is constant.
 */
import type { Progress, RankCosts } from "./progress.ts";
import type { RankSchedule } from "./schedule.ts";
import type { Host, Played, Times } from "./simulate.ts";

/** A rank computes, waits for a time that is known, or waits for something nobody has done yet. */
interface Runner { list: Int32Array; left: number; running: boolean; from: number; host: number }

export function shareCores({ entries, microbatches }: RankSchedule, { compute }: RankCosts, progress: Progress, hosts: readonly Host[], { starts, ends }: Times): Played {
  const numRanks = entries.length;
  const next = new Int32Array(numRanks), clock = new Float64Array(numRanks), busy = new Float64Array(numRanks);
  const hostOf = new Int32Array(numRanks).fill(-1), cores = hosts.map((host) => host.cores), active = hosts.map(() => 0);
  hosts.forEach(({ ranks }, host) => ranks.forEach((rank) => { hostOf[rank] = host; }));
  const runners = entries.map((list, rank): Runner => ({ list, left: 0, running: false, from: -1, host: hostOf[rank] }));
  const speed = ({ host }: Runner): number => (host < 0 ? 1 : Math.min(1, cores[host] / active[host]));
  let now = 0;
  for (;;) {
    let began = false;
    while (beginReady()) began = true; // what begins takes its messages, and that may let another begin
    let step = Infinity;
    for (const [rank, runner] of runners.entries()) {
      if (runner.running) step = Math.min(step, runner.left / speed(runner));
      else if (next[rank] < runner.list.length && runner.from > now) step = Math.min(step, runner.from - now);
    }
    if (step === Infinity && !began) return { next, clock, busy };
    advance(step);
  }

  /** Starts what can start now. -> whether anything did. */
  function beginReady(): boolean {
    let began = false;
    runners.forEach((runner, rank) => {
      if (runner.running || next[rank] >= runner.list.length) return;
      const entry = runner.list[next[rank]];
      runner.from = progress.ready(entry);
      if (runner.from < 0 || runner.from > now) return;
      runner.left = compute[Math.floor((entry >>> 2) / microbatches) * 4 + (entry & 3)];
      runner.running = began = true;
      progress.begin(entry, now);
      if (runner.host >= 0) active[runner.host]++;
      if (starts) starts[rank][next[rank]] = now;
    });
    return began;
  }

  /** All speeds are read before any rank ends: they held for the whole of the step. */
  function advance(step: number): void {
    const rates = runners.map((runner) => (runner.running ? speed(runner) : 0));
    const later = now + step;
    runners.forEach((runner, rank) => {
      if (!runner.running) return;
      const ended = runner.left / rates[rank] <= step;
      runner.left = Math.max(0, runner.left - step * rates[rank]);
      busy[rank] += step;
      if (!ended) return;
      runner.running = false;
      if (runner.host >= 0) active[runner.host]--;
      progress.done(runner.list[next[rank]], later);
      if (ends) ends[rank][next[rank]] = later;
      clock[rank] = later;
      next[rank]++;
    });
    now = later;
  }
}

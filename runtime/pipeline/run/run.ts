import { join } from "node:path";
import { cpus } from "node:os";
import { type ActorSystem, createActorSystem, type RefOf } from "../../actor/index.ts";
import { type ShardEntry } from "../../checkpoint/index.ts";
import { monotonicUs } from "../../metrics/index.ts";
import { clipScale, globalNorm } from "../../optimizer/index.ts";
import { type LaneName, type Whereabouts, chooseLane, laneNotes, laneOffers, whereabouts } from "../../parallel/index.ts";
import type { OptimizerComponent, ProcessStats } from "../../plugin/index.ts";
import { createSocketFolder, createZeromqTransport, type Transport } from "../../transport/index.ts";
import type { CheckResult } from "../plan/check.ts";
import type { StepHeader } from "./feed.ts";
import type { RankPlace } from "../plan/layout.ts";
import type { Launcher, WorkerHandle, WorkerSpec } from "./launcher.ts";
import type { StageModelOptions } from "./model.ts";
import { FailureWatch } from "./failure-watch.ts";
import { type RankReport, rank, rankNode } from "./rank.ts";
import { collectOffers } from "./rank-groups.ts";
import type { RankSchedule } from "../schedule/schedule.ts";
import { combineScalars } from "./update.ts";
import { choosePrecision } from "../recipe/precision.ts";
import type { Precision } from "../../tensor/index.ts";
import { formatRecipe } from "../recipe/recipe.ts";
import type { StepRunner } from "./step-runner.ts";
import type { RankSpans } from "./trace.ts";

export interface PipelineOptions {
  launcher: Launcher;
  runFolder: string;
  lane?: string;
  seed: number;
  load?: StageModelOptions["load"];
}

type RankRef = RefOf<typeof rank>;

/** Longest that a rank may take to read its data and build its components, or to write a checkpoint. */
const startUpMs = 3600_000;

/** A rank that has not said by then how far it has come is asked again. */
const answerMs = 600_000;

/** The last resort, should the watch over the ranks (pulse.ts) see nothing wrong. A step may take this many times the slowest so far, and never less than `leastStepMs`: a worker that stands still is not waited for forever. */
const stepPatience = 50;
const leastStepMs = 600_000;

/**
 * Starts one process per rank of the schedule and returns what drives them, step by step. The driver holds no tensors: it gathers the norm
 * and the losses, and tells the ranks when to step.
 *
 * RUN-1: whatever fails first ends the run with one ERR_RUN that names component, process, step and cause.
 * RUN-2: `close` leaves no process and no socket file, whether the run went well or not.
 */
export async function startPipeline(checked: CheckResult, o: PipelineOptions): Promise<StepRunner> {
  const folder = createSocketFolder();
  const transport = createZeromqTransport({ node: "driver", folder: folder.path });
  const system = createActorSystem({ node: "driver", transport, callTimeoutMs: startUpMs });
  const watch = new FailureWatch(checked);
  const close = async (): Promise<void> => {
    watch.closing();
    await o.launcher.close();
    await system.stop();
    folder.remove();
  };
  try {
    const handles = await o.launcher.spawn(workerSpecs(checked, o.runFolder, folder.path));
    watch.processes(handles, (node, reason) => system.peerDown(node, reason));
    watch.system(system);
    return await watch.guard(connect(checked, { ...o, handles, transport, system, watch, close, socketsGone: () => folder.remove() }));
  } catch (error) {
    await close();
    throw error;
  }
}

interface Connection extends PipelineOptions {
  handles: readonly WorkerHandle[];
  transport: Transport;
  system: ActorSystem;
  watch: FailureWatch;
  close(): Promise<void>;
  socketsGone(): void;
}

async function connect(checked: CheckResult, c: Connection): Promise<StepRunner> {
  const { recipe, plan, layout } = checked, names = layout.ranks.map(({ name }) => name);
  await Promise.all(names.map((name) => c.transport.connect(rankNode(name))));
  const refs = names.map((name) => c.system.remote(rank, rankNode(name)));
  /** The first failure ends the asking: what the others still do is given up, so that they are free for whatever comes next. */
  const ask: Crew["ask"] = async (work) => {
    const rest = new AbortController();
    try {
      return await Promise.all(refs.map((ref, i) => work(ref, names[i], i, rest.signal).catch((error: unknown) => { throw c.watch.blame(names[i], error); })));
    } catch (error) {
      rest.abort(error);
      throw error;
    }
  };
  const work = { underWay: false, steps: 0 };
  c.watch.pulse(c.system, { work: () => work, ask: (name) => refs[names.indexOf(name)].progress.call(undefined, { timeoutMs: answerMs }) });
  const met = await ask((ref) => ref.introduce.call());
  const { precision, warning } = choosePrecision(recipe.train.precision, met.map(({ fastBf16 }, i) => ({ name: names[i], fastBf16 })));
  const built = await ask((ref, name, i) => ref.build.call({
    rank: name, recipe: { text: formatRecipe(recipe), file: recipe.file }, model: { seed: c.seed, precision, threads: threadsOf(checked, layout.ranks[i]), load: c.load },
  }));
  const lanes = chooseLanes(checked, new Map(met.map(({ whereabouts }, i) => [names[i], whereabouts])), c.lane);
  const offers = collectOffers(layout.ranks, new Map(built.map((one, i) => [names[i], one.offers])));
  await ask((ref, name, i) => ref.link.call({ lanes: Object.fromEntries(built[i].peers.map((peer) => [peer, lanes.get(pair(name, peer))!.lane])), offers }));
  c.socketsGone(); // every link is up: nothing connects any more, so nothing can be left behind
  const loaderIndex = names.indexOf(rankOfComponent(checked, checked.loader));
  const header: Crew["header"] = (step, timeoutMs) =>
    refs[loaderIndex].header.call({ step }, { timeoutMs }).catch((error: unknown) => { throw c.watch.blame(names[loaderIndex], error); });
  return new PipelineRunner(checked, c, { ask, header, work, lanes, hosts: met.map(({ whereabouts: { host } }) => host), precision, parameters: plan.stages.reduce((sum, { parameters }) => sum + parameters, 0), warnings: [...(warning === undefined ? [] : [warning]), ...built.flatMap(({ warnings }) => warnings)] });
}

interface Crew {
  /** What the watch over the ranks must know of the steps. */
  work: { underWay: boolean; steps: number };
  /** Asks every rank, in the order of the layout; a failure names it. */
  ask<T>(work: (ref: RankRef, name: string, index: number, signal: AbortSignal) => Promise<T>): Promise<T[]>;
  /** Asks the loader's rank for what all must know before a step. */
  header(step: number, timeoutMs: number): Promise<StepHeader>;
  lanes: Map<string, Choice>;
  /** Of every rank: what `Whereabouts` calls its host. */
  hosts: readonly string[];
  precision: Precision;
  parameters: number;
  warnings: string[];
}

class PipelineRunner implements StepRunner {
  readonly parameters: number;
  readonly precision: Precision;
  readonly warnings: string[];
  readonly processes;
  readonly links;
  readonly #optimizer: OptimizerComponent;
  #next: { step: number; header: Promise<StepHeader> } | undefined;
  #slowestMs = 0;

  constructor(private readonly checked: CheckResult, private readonly c: Connection, private readonly crew: Crew) {
    this.parameters = crew.parameters;
    this.precision = crew.precision;
    this.warnings = crew.warnings;
    this.processes = checked.layout.ranks.map(({ name, stages }) => {
      const handle = c.handles.find((handle) => handle.name === name)!;
      const components = stages.flatMap((stage) => checked.plan.stages.find((each) => each.name === stage)!.components);
      return { stage: name, stages, components, pid: handle.pid, host: handle.host };
    });
    this.links = linksOf(checked).map(({ from, to, ends }) => ({ from, to, ...crew.lanes.get(pair(...ends))! }));
    this.#optimizer = checked.optimizer.plugin.create(checked.optimizer.options, checked.host) as OptimizerComponent;
  }

  get schedule(): RankSchedule {
    return this.checked.schedule;
  }

  step(step: number, { trace = false } = {}): ReturnType<StepRunner["step"]> {
    const { watch } = this.c;
    watch.at(step);
    return watch.guard(this.#step(step, trace));
  }

  /** Clocks of other hosts are set to ours by the middle of a call: right to half of what it takes. */
  async spans(): Promise<RankSpans[]> {
    const here = whereabouts().host;
    const found = await this.c.watch.guard(this.crew.ask(async (ref) => {
      const asked = monotonicUs(), { spans, nowUs } = await ref.spans.call();
      return { spans, ahead: nowUs - (asked + monotonicUs()) / 2 };
    }));
    return this.checked.layout.ranks.map(({ name: rank }, i) => {
      const host = this.processes.find((process) => process.stage === rank)!.host, { spans, ahead } = found[i];
      const shift = this.crew.hosts[i] === here ? 0 : ahead;
      return { rank, host: host ?? "localhost", spans: spans.map((span) => ({ ...span, begin: span.begin - shift, end: span.end - shift })) };
    });
  }

  async #step(step: number, trace: boolean): ReturnType<StepRunner["step"]> {
    const { recipe } = this.checked;
    const begun = performance.now();
    const timeoutMs = Math.max(leastStepMs, stepPatience * this.#slowestMs);
    const header = await (this.#next?.step === step ? this.#next.header : this.crew.header(step, timeoutMs));
    const { work } = this.crew;
    work.underWay = true;
    const running = this.crew.ask((ref, _name, _index, signal) => ref.step.call({ header, trace }, { timeoutMs, signal })).finally(() => (work.underWay = false));
    // Asked for now, answered by the loader after its share of this step: the next batch is read while this one trains.
    this.#next = undefined;
    if (step + 1 < recipe.train.steps) {
      const next = this.crew.header(step + 1, timeoutMs);
      next.catch(() => undefined); // the step that needs it reports it
      this.#next = { step: step + 1, header: next };
    }
    const reports = await running;
    const norm = globalNorm(reports.flatMap((report) => report.squares));
    const gradScale = recipe.train.clip > 0 ? clipScale(norm, recipe.train.clip) : 1;
    const learningRate = this.#optimizer.learningRate(step, recipe.train.steps);
    await this.crew.ask((ref) => ref.apply.call({ step, learningRate, gradScale }, { timeoutMs }));
    work.steps++;
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - begun);
    return { ...combineScalars(this.#inGraphOrder(reports)), norm, learningRate, pages: header.microbatches.reduce((sum, { keys }) => sum + keys.length, 0), keys: header.microbatches.flatMap(({ keys }) => keys) };
  }

  /** Per microbatch, the scalars of all ranks in the order of the graph: the order in which one process would have them. */
  #inGraphOrder(reports: readonly RankReport[]): (readonly [string, number])[][] {
    const order = new Map(this.checked.graph.nodes.map((node, i) => [node.name, i]));
    const rank = (name: string): number => order.get(name.split(".")[0])!;
    return Array.from({ length: this.checked.recipe.train.microbatches }, (_, microbatch) =>
      reports.flatMap((report) => report.scalars[microbatch] ?? []).sort(([a], [b]) => rank(a) - rank(b)));
  }

  save(folder: string): Promise<ShardEntry[]> {
    return this.c.watch.guard(this.crew.ask((ref) => ref.save.call({ folder })).then((entries) => entries.flat()));
  }

  async stats(): Promise<Record<string, ProcessStats>> {
    const stats = await this.c.watch.guard(this.crew.ask((ref) => ref.stats.call()));
    return Object.fromEntries(this.checked.layout.ranks.map(({ name }, i) => [name, stats[i]]));
  }

  close(): Promise<void> {
    return this.c.close();
  }
}

function workerSpecs(checked: CheckResult, runFolder: string, socketDir: string): WorkerSpec[] {
  return checked.layout.ranks.map((rank) => ({
    name: rank.name, title: `octavo worker ${shownName(checked, rank)}`, runFolder, threads: threadsOf(checked, rank),
    control: { node: "driver", socketDir }, logFile: join(runFolder, "logs", `${rank.name}.log`),
  }));
}

/** What a rank is shown by: of one stage, the first component that the recipe lists for it. */
function shownName({ recipe }: CheckResult, { name, slot, stages }: RankPlace): string {
  const component = stages.length === 1 ? recipe.stages?.[stages[0]]?.[0] : undefined;
  return component === undefined ? name : `${component}${name.slice(slot.length)}`;
}

/**
 * Cores of this host shared out by the parameters a rank trains, rounded up: the heaviest of an uneven cut would leave cores
 * idle while all others wait for it (measured on 2 cores: fine-tuning 31.3 pages/s against 28.2 with one thread each). Threads that wait
 * sleep, so a few more than cores do no harm; the bits never depend on them.
 */
function threadsOf({ recipe, plan, layout }: CheckResult, rank: RankPlace): number {
  const { threads } = recipe.train;
  if (threads !== "auto") return threads;
  const trained = ({ stages, layout: { tensor } }: RankPlace): number => plan.stages.filter(({ name }) => stages.includes(name)).reduce((sum, { trainable }) => sum + trainable, 0) / tensor;
  const total = layout.ranks.reduce((sum, each) => sum + trained(each), 0);
  return Math.max(1, Math.ceil((cpus().length * trained(rank)) / Math.max(1, total)));
}

/** Who sends to whom, edge by edge: by the names of the stages, or of the ranks where a slot has several. */
function linksOf({ layout }: CheckResult): { from: string; to: string; ends: [string, string] }[] {
  return layout.bridges.flatMap(({ edge, routes }) => {
    const forward = routes.filter(({ carries }) => carries === "activations");
    return forward.map(({ from, to }) => ({ ...(forward.length === 1 ? { from: edge.from, to: edge.to } : { from, to }), ends: [from, to] as [string, string] }));
  });
}

function rankOfComponent({ plan, layout }: CheckResult, component: string): string {
  const { name } = plan.stages.find((stage) => stage.components.includes(component))!;
  return layout.ranks.find(({ stages }) => stages.includes(name))!.name;
}

/** `notes`: which lanes could not be had, and why. */
interface Choice { lane: LaneName; notes: string[] }

/** For each pair of ranks that talk the wanted lane, or the best that the whereabouts of both ends allow. ERR_LANE when they do not offer the wanted one. */
function chooseLanes({ layout }: CheckResult, where: ReadonlyMap<string, Whereabouts>, wanted: string | undefined): Map<string, Choice> {
  return new Map(layout.bridges.flatMap(({ routes }) => routes).map(({ from, to }) => {
    const [here, there] = [where.get(from)!, where.get(to)!];
    return [pair(from, to), { lane: chooseLane(laneOffers(here, there), wanted), notes: laneNotes(here, there) }];
  }));
}

const pair = (a: string, b: string): string => [a, b].sort().join("--");

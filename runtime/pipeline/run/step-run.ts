import { reshape } from "../../ops/index.ts";
import type { SpanKind, SpanLabel, Timeline } from "../../metrics/index.ts";
import type { DataCopies, SendOptions, Shares } from "../../parallel/index.ts";
import type { HostBatch } from "../../plugin/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import type { StepHeader } from "./feed.ts";
import type { Inbox } from "./inbox.ts";
import { type Crossing, MicrobatchPass, type Residence, edgeKey, outputKey } from "./microbatch.ts";
import type { StageModel, StageShare } from "./model.ts";
import type { Link, RankReport } from "./rank.ts";
import { type MessageName, messageKey, wayKey } from "../schedule/messages.ts";
import type { Route, Work, WorkEntry } from "./rank-work.ts";
import { StepSums } from "./step-sums.ts";
import { gradientSquares } from "./update.ts";

/** What a step of a rank works with; nothing of it belongs to the step. */
export interface StepRunInput {
  rank: string;
  model: StageModel;
  work: Work;
  header: StepHeader;
  /** Where the loader is here. */
  batch?: HostBatch;
  inbox: Inbox<Crossing>;
  link(peer: string): Link;
  /** Where this rank has copies, and who of them has what. */
  copies?: DataCopies;
  shares?: Shares;
  /** Ends the waiting (STG-5). */
  signal: AbortSignal;
  /** The step has come to an entry; in words. */
  reached(at: string): void;
  timeline: Timeline;
}

/** What comes out of it: the caller owns the tensors. */
export interface StepRunResult {
  report: RankReport;
  gradients: Map<string, Tensor>;
  /** The names of all that has a gradient, here or with another copy. */
  moved: string[];
  sums: Map<string, Tensor>;
}

/** A microbatch on its way through one stage. `crossing`, after B or I: the gradients of edges whose producer is another stage. */
interface UnderWay { pass: MicrobatchPass; crossing: Crossing; sending: Promise<void>[] }

/** One step of one rank: its entries in order (STG-1), the microbatches under way, and what is being sent. */
export class StepRun {
  readonly #underWay = new Map<string, UnderWay>();
  /** All that is not closed: those under way, and those whose last bytes are not out (STG-3). */
  readonly #open = new Set<MicrobatchPass>();
  readonly #closing: Promise<void>[] = [];
  /** Given within the rank and not yet taken, by message. */
  readonly #handedOver = new Map<string, Crossing>();
  readonly #stages: ReadonlyMap<string, StageShare>;
  readonly #sums: StepSums;
  readonly #residence: Residence | undefined;
  readonly #scalars: Promise<(readonly [name: string, value: number])[]>[][];
  /** Ends the step when something fails that nobody waits for. */
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;

  /** The storages of the parameters here. */
  readonly #values: ReadonlySet<Tensor>;

  constructor(private readonly o: StepRunInput) {
    this.#values = new Set(Object.values(o.model.parameters).map((parameter) => parameter.value.root));
    const { model: { nodes, stages }, work: { share, inStep }, copies } = o, values = copies?.values;
    this.#signal = AbortSignal.any([o.signal, this.#failed.signal]);
    this.#stages = new Map(stages.map((stage) => [stage.name, stage]));
    this.#sums = new StepSums({ nodes, share, copies, early: inStep && (o.shares?.zero ?? 0) >= 2 });
    this.#residence = values && { take: ({ parameters }) => values.take(Object.entries(parameters)), leave: ({ parameters }) => values.leave(Object.entries(parameters)) };
    this.#scalars = Array.from({ length: o.header.microbatches.length }, () => []);
  }

  async run(): Promise<StepRunResult> {
    for (const entry of this.o.work.entries) {
      this.#signal.throwIfAborted();
      this.o.reached(`${entry.kind}${entry.microbatch} of ${entry.stage} in step ${this.o.header.step}`);
      const taken = await this.#take(entry);
      this.o.timeline.device(this.#label("compute", entry), () => this.#compute(entry, taken));
      await this.#give(entry);
      if (entry.last) this.#finish(entry);
    }
    await Promise.all(this.#closing);
    this.#signal.throwIfAborted();
    const scalars = await Promise.all(this.#scalars.map(async (stages) => (await Promise.all(stages)).flat()));
    const found = this.#sums.result(), reported = new Map([...found.gradients].filter(([name]) => this.#reports(name)));
    return { ...found, report: { scalars, squares: await gradientSquares(reported) } };
  }

  /** A sum that several ranks have is told by one of them, of one that is shared out over a tensor group each tells its share. */
  #reports(name: string): boolean {
    const { work: { leads, place }, shares, model } = this.o;
    return (leads || (place.context === 0 && model.parameters[name].split !== undefined)) && (shares?.reports(name) ?? true);
  }

  /** The entry's messages, all of them (RL-2). */
  async #take(entry: WorkEntry): Promise<Crossing> {
    const waits = entry.takes.map(async (route) => (route.local ? this.#takeLocal(entry, route) : this.#takeSent(entry, route)));
    try {
      const taken = await Promise.all(waits);
      for (const { local, peer, edge, carries } of entry.takes) if (!local) this.o.link(peer).ref.credit.cast({ from: this.o.rank, edge, carries });
      return Object.assign({}, ...taken) as Crossing;
    } catch (error) {
      for (const each of await Promise.allSettled(waits)) if (each.status === "fulfilled") disposeAll(each.value);
      throw error;
    }
  }

  #takeSent(entry: WorkEntry, route: Route): Promise<Crossing> {
    const taken = (): Promise<Crossing> => this.o.inbox.take(messageKey(this.#name(entry, route)), this.#signal);
    return this.o.timeline.host(this.#label("wait-for-input", entry, route), taken);
  }

  /** What the timeline calls an entry, or a message of it. */
  #label(kind: SpanKind, { stage, kind: what, microbatch }: WorkEntry, route?: Route): SpanLabel {
    const name = route ? `${route.carries} ${microbatch} ${kind === "wait-for-input" ? "of" : "to"} ${route.peer}` : `${what}${microbatch}`;
    return { kind, name, step: this.o.header.step, stage, microbatch, peer: route?.peer };
  }

  #takeLocal(entry: WorkEntry, route: Route): Crossing {
    const key = messageKey(this.#name(entry, route)), tensors = this.#handedOver.get(key);
    if (!tensors) throw new Error(`rank ${this.o.rank}: ${entry.stage} ${entry.kind}${entry.microbatch} before what ${route.plan.id} gives it`);
    this.#handedOver.delete(key);
    return tensors;
  }

  #compute(entry: WorkEntry, taken: Crossing): void {
    const { kind, microbatch } = entry;
    if (kind === "F") return this.#forward(entry, taken);
    const { nodes } = this.#stages.get(entry.stage)!, underWay = this.#underWay.get(passKey(entry))!;
    if (kind === "B") {
      const without = new Set(nodes);
      underWay.crossing = underWay.pass.backward(taken, (node, gradients) => {
        without.delete(node);
        this.#sums.push([node], microbatch, gradients);
      }).crossing;
      this.#sums.push([...without], microbatch, new Map());
    } else if (kind === "I") underWay.crossing = underWay.pass.backwardInputs(taken);
    else this.#sums.push(nodes, microbatch, underWay.pass.backwardWeights());
  }

  #forward(entry: WorkEntry, taken: Crossing): void {
    const { model: { seed, precision, graph }, header: { step, counts, microbatches }, batch } = this.o, { microbatch } = entry;
    const stage = this.#stages.get(entry.stage)!;
    const context = { training: true, step, seed, counts, precision, sampleIds: microbatches[microbatch].sampleIds };
    const pass = new MicrobatchPass(graph, stage.nodes, context, `microbatch ${microbatch} of step ${step} in ${stage.name}`, this.#residence);
    this.#open.add(pass);
    this.#underWay.set(passKey(entry), { pass, crossing: {}, sending: [] });
    pass.forward(taken, batch?.microbatches[microbatch]);
    this.#sums.pushSums(stage.name, microbatch, pass.sums());
    if (!this.o.work.leads) return;
    const scalars = Promise.all(pass.scalars().map(async ([name, tensor]) => [name, await tensor.item()] as const)); // read when the device gets there
    scalars.catch(this.#fail);
    this.#scalars[microbatch].push(scalars);
  }

  /** Gives what others wait for; returns when all of it has a credit and is on its way. */
  async #give(entry: WorkEntry): Promise<void> {
    const underWay = this.#underWay.get(passKey(entry))!;
    await Promise.all(entry.gives.map(async (route) => {
      const tensors = route.carries === "activations" ? activationsOf(underWay, route) : this.#gradientsOf(underWay, route), name = this.#name(entry, route);
      if (route.local) return void this.#handedOver.set(messageKey(name), viewsOf(tensors));
      const { lane, ref, credits } = this.o.link(route.peer);
      await this.o.timeline.host(this.#label("wait-for-credit", entry, route), () => credits.get(wayKey(route))!.acquire(this.#signal));
      const sent = this.o.timeline.device(this.#label("transfer", entry, route), () => lane.send(tensors, this.#howToSend(tensors, route))).then(({ descriptors, attachments }) => ref.deliver.cast({ ...name, from: this.o.rank, descriptors }, { attachments }));
      sent.catch(this.#fail);
      underWay.sending.push(sent);
    }));
  }

  /** Parameters that leave as outputs are the same in all microbatches of a step: sent once. What the recipe says travels as bf16. */
  #howToSend(tensors: Crossing, { plan }: Route): SendOptions {
    const { graph } = this.o.model, names = Object.keys(tensors), compress = plan.tensors.filter(({ compress }) => compress).map(({ from }) => outputKey(...from));
    const outputs = new Set([...compress, ...graph.edges.filter(({ from }) => compress.includes(outputKey(...from))).map(edgeKey)]);
    return {
      versions: Object.fromEntries(names.filter((name) => this.#values.has(tensors[name].root)).map((name) => [name, `${this.o.header.step}`])),
      compress: names.filter((name) => outputs.has(name)),
    };
  }

  #gradientsOf({ crossing }: UnderWay, { plan }: Route): Crossing {
    const outputs = new Set(plan.tensors.map(({ from }) => outputKey(...from)));
    const edges = this.o.model.graph.edges.filter((edge) => outputs.has(outputKey(...edge.from)) && crossing[edgeKey(edge)]);
    return Object.fromEntries(edges.map((edge) => [edgeKey(edge), crossing[edgeKey(edge)]]));
  }

  #name({ microbatch }: WorkEntry, { edge, carries }: Route): MessageName {
    return { step: this.o.header.step, microbatch, edge, carries };
  }

  /** After the last entry of a microbatch in a stage: everything it made is freed, as soon as its bytes are out. */
  #finish(entry: WorkEntry): void {
    const { pass, sending } = this.#underWay.get(passKey(entry))!;
    this.#underWay.delete(passKey(entry));
    const close = (): void => (this.#open.delete(pass), pass.close());
    if (sending.length === 0) return close();
    const closed = Promise.all(sending).then(close);
    closed.catch(this.#fail);
    this.#closing.push(closed);
  }

  /** Thrown by what waits, or before the next entry (STG-4). */
  readonly #fail = (reason: unknown): void => this.#failed.abort(reason);

  /** Frees what a failed step left. */
  abandon(): void {
    for (const pass of this.#open) pass.close();
    for (const tensors of this.#handedOver.values()) disposeAll(tensors);
    this.#sums.dispose();
  }
}

function disposeAll(tensors: Crossing): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}

const passKey = ({ stage, microbatch }: WorkEntry): string => `${stage}/${microbatch}`;

const activationsOf = ({ pass }: UnderWay, { plan }: Route): Crossing => Object.fromEntries(plan.tensors.map(({ from }) => [outputKey(...from), pass.value(...from)]));

/** Views of their own: whichever of the two microbatches ends first, the storage lives until the other has ended. */
const viewsOf = (tensors: Crossing): Crossing => Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, reshape(tensor, tensor.shape)]));

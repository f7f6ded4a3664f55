import { type ActorContext, type RefOf, defineActor } from "../actor/index.ts";
import { GradientTree } from "../autograd/index.ts";
import { RuntimeError, fromFailure } from "../errors.ts";
import { type EventLoopMeter, measureEventLoop } from "../metrics/index.ts";
import { type Lane, type LaneName, type LeaseId, type TensorDescriptor, type Whereabouts, createLane, whereabouts } from "../parallel/index.ts";
import type { HostBatch, ProcessStats } from "../plugin/index.ts";
import { type Tensor, fastBf16, memory } from "../tensor/index.ts";
import type { Transport } from "../transport/index.ts";
import { type CheckResult } from "./check.ts";
import { Credits, Inbox } from "./inbox.ts";
import { Feed, type StepHeader, headerOf } from "./feed.ts";
import { type Crossing, MicrobatchPass, edgeKey, outputKey } from "./microbatch.ts";
import { type StageModel, type StageModelOptions, loadStageModel } from "./model.ts";
import { type Action, lower } from "./schedule.ts";
import type { StageEdge } from "./plan.ts";
import { type UpdateSettings, applyGradients, applySums, gradientSquares } from "./update.ts";
import { type ShardEntry, saveShard } from "../checkpoint/index.ts";

/**
 * One stage of a pipeline: the components of one process, driven by a schedule. It does what `trainer/step.ts` does, for its
 * share of the components; tensors of the others arrive and leave as messages.
 *
 * STG-1: actions run in the order of the schedule; a RECV waits for its message, a SEND for a credit of its edge.
 * STG-2: an edge has at most `credits` messages under way per direction; the receiver gives the credit back when it takes one.
 * STG-3: a tensor that is being sent stays alive until its bytes are out; everything else of a microbatch goes with its scope.
 * STG-4: nothing here is swallowed: what fails while a message is sent or received fails the step.
 * STG-5: a step that waits ends at once when its caller gives up, its deadline passes, or a stage it shares an edge with is gone.
 */
export interface StageSetup {
  transport: Transport;
  /** All links of this stage are up. */
  linked(): void;
  /** Turns the stage's part of a message of the driver into a checked recipe: plugins are known here only by name. */
  resolve(recipe: StageBuild["recipe"]): Promise<CheckResult>;
}

export interface StageBuild {
  stage: string;
  recipe: { text: string; file: string };
  model: Omit<StageModelOptions, "stage" | "tensor">;
}

export interface Introduction { whereabouts: Whereabouts; fastBf16: boolean }

export interface StageReport {
  /** Per microbatch, the scalars of the objectives here. */
  scalars: (readonly [name: string, value: number])[][];
  /** Sum of squares per parameter gradient. */
  squares: [name: string, sum: number][];
}

interface Delivery { step: number; microbatch: number; from: string; carries: "activations" | "gradients"; descriptors: TensorDescriptor[] }

interface Link { node: string; lane: Lane; ref: RefOf<typeof stage>; credits: Map<Delivery["carries"], Credits> }

interface State {
  setup: StageSetup;
  meter: EventLoopMeter;
  model?: StageModel;
  feed?: Feed;
  batch?: HostBatch;
  actions: readonly Action[];
  edges: readonly StageEdge[];
  links: Map<string, Link>;
  /** Ends the interest in the lives of the linked stages. */
  unwatch: (() => void)[];
  inbox: Inbox<Crossing>;
  gradients?: Map<string, Tensor>;
  sums?: Map<string, Tensor>;
  stepped: boolean;
}

export const stageNode = (stageName: string): string => `worker-${stageName}`;

export const stage = defineActor({
  name: "stage",
  mailbox: { capacity: 4096 },
  interleave: ["deliver", "release", "credit"],

  init: (setup: StageSetup): State => ({
    setup, meter: measureEventLoop(), actions: [], edges: [], links: new Map(), unwatch: [], inbox: new Inbox(), stepped: false,
  }),

  endpoints: {
    /** What the driver must know of this process before it plans the run. */
    async introduce(): Promise<Introduction> {
      return { whereabouts: whereabouts(), fastBf16: fastBf16() };
    },

    /** Builds this stage's components, with the values of a checkpoint where one is given. No tensor existed before. */
    async build(state: State, { stage: name, recipe, model }: StageBuild): Promise<{ parameters: number; peers: string[]; warnings: string[] }> {
      const checked = await state.setup.resolve(recipe);
      state.model = await loadStageModel(checked, { ...model, stage: name });
      state.edges = checked.plan.edges.filter((edge) => edge.from === name || edge.to === name);
      state.actions = lower(checked.schedule, checked.plan.edges).stages.find((stage) => stage.stage === name)!.actions;
      if (state.model.loader) {
        const { batch, microbatches, steps } = checked.recipe.train;
        state.feed = new Feed(state.model.loader, { seed: model.seed, batch, microbatches, steps });
      }
      return { parameters: state.model.size, warnings: state.model.warnings, peers: [...new Set(state.edges.flatMap((edge) => [edge.from, edge.to]))].filter((peer) => peer !== name) };
    },

    /** Opens the links to the stages it shares an edge with. Both ends are told at the same time. */
    async link(state: State, { lanes }: { lanes: Record<string, LaneName> }, context: ActorContext): Promise<void> {
      const { name } = modelOf(state);
      await Promise.all(Object.entries(lanes).map(async ([peer, lane]) => {
        const node = stageNode(peer);
        await state.setup.transport.connect(node);
        const edge = state.edges.find((edge) => edge.from === peer || edge.to === peer)!;
        const link: Link = {
          node, lane: createLane(lane, { node: stageNode(name) }), ref: context.system.remote(stage, node),
          credits: new Map([["activations", new Credits(edge.credits)], ["gradients", new Credits(edge.credits)]]),
        };
        state.links.set(peer, link);
        state.unwatch.push(context.system.monitor(link.ref, ({ message, failure }) => {
          const gone = new RuntimeError("ERR_DEAD", `stage ${name}: ${peer} is gone, nothing comes from it any more: ${message}`, { stage: name, peer }, failure && { cause: fromFailure(failure) });
          state.inbox.fail(gone);
          for (const credits of link.credits.values()) credits.fail(gone);
          link.lane.peerDown(message);
        }));
      }));
      state.setup.linked();
    },

    /** On the loader's stage: reads the batch of a step and says what everybody must know before its first forward. */
    async header(state: State, { step }: { step: number }): Promise<StepHeader> {
      state.batch = await state.feed!.batch(step);
      return headerOf(state.batch);
    },

    /** Runs the schedule of one step up to, not including, the optimizer. */
    async step(state: State, { header }: { header: StepHeader }, { signal }: ActorContext): Promise<StageReport> {
      if (!state.stepped) state.meter.reset(); // how the event loop fares while training, not while loading
      state.stepped = true;
      const run = new StepRun(state, header, signal);
      try {
        return await run.run();
      } catch (error) {
        run.abandon();
        throw error;
      }
    },

    /** The optimizer's part of the step, and what comes after it; the gradients and sums of `step` are used up. */
    async apply(state: State, settings: UpdateSettings): Promise<void> {
      const { parameters, optimizer, nodes } = modelOf(state);
      if (state.gradients) applyGradients(parameters, state.gradients, optimizer, settings);
      if (state.sums) applySums(nodes, state.sums);
      state.gradients = state.sums = undefined;
    },

    async save(state: State, { folder }: { folder: string }): Promise<ShardEntry[]> {
      const { name, parameters, optimizer } = modelOf(state);
      return saveShard(folder, name, parameters, optimizer);
    },

    async stats(state: State): Promise<ProcessStats> {
      return { memory: memory(), eventLoop: state.meter.read(), loader: state.model?.loader?.stats() ?? {} };
    },

    async deliver(state: State, { step, microbatch, from, carries, descriptors }: Delivery, context: ActorContext): Promise<void> {
      const link = linkTo(state, from);
      try {
        const { tensors, done } = await link.lane.receive(descriptors, context.attachments);
        state.inbox.put(inboxKey(step, microbatch, from, carries), tensors);
        const leases = await done;
        if (leases.length > 0) link.ref.release.cast({ from: modelOf(state).name, leases });
      } catch (error) {
        state.inbox.fail(error); // whoever waits for this message learns why it will not come
        throw error;
      }
    },

    async release(state: State, { from, leases }: { from: string; leases: LeaseId[] }): Promise<void> {
      linkTo(state, from).lane.release(leases);
    },

    async credit(state: State, { from, carries }: { from: string; carries: Delivery["carries"] }): Promise<void> {
      linkTo(state, from).credits.get(carries)!.giveBack();
    },
  },

  async terminate(state) {
    state.meter.stop();
    for (const unwatch of state.unwatch) unwatch();
    for (const crossing of state.inbox.drain()) for (const tensor of Object.values(crossing)) tensor.dispose();
    for (const tensor of [...(state.gradients?.values() ?? []), ...(state.sums?.values() ?? [])]) tensor.dispose();
    for (const link of state.links.values()) link.lane.close();
    await state.model?.close();
  },
});

/** One step of one stage: the microbatches under way, and what is being sent. */
class StepRun {
  readonly #passes = new Map<number, MicrobatchPass>();
  readonly #sending = new Map<number, Promise<void>[]>();
  readonly #received = new Map<string, Crossing>();
  readonly #gradientsOut = new Map<number, Crossing>();
  readonly #scalars: (readonly [string, number])[][] = [];
  readonly #tree: GradientTree;
  readonly #sums: GradientTree;
  readonly #model: StageModel;
  readonly #lastUse: ReadonlyMap<number, number>;
  #failure: { reason: unknown } | undefined;

  constructor(private readonly state: State, private readonly header: StepHeader, private readonly signal: AbortSignal) {
    this.#model = modelOf(state);
    this.#tree = new GradientTree(header.microbatches.length);
    this.#sums = new GradientTree(header.microbatches.length);
    // the position of the last action of every microbatch: after it, its tensors can go
    this.#lastUse = new Map(state.actions.map((action, i) => [action.microbatch, i]));
  }

  async run(): Promise<StageReport> {
    for (const [i, action] of this.state.actions.entries()) {
      if (this.#failure) throw this.#failure.reason;
      await this.#perform(action);
      if (action.microbatch >= 0 && this.#lastUse.get(action.microbatch) === i) await this.#finish(action.microbatch);
    }
    const gradients = this.#model.learns ? this.#tree.result() : new Map<string, Tensor>();
    this.state.gradients = gradients;
    this.state.sums = this.#sums.result();
    return { scalars: this.#scalars, squares: await gradientSquares(gradients) };
  }

  async #perform({ kind, microbatch, peer, carries }: Action): Promise<void> {
    switch (kind) {
      case "RECV": return this.#receive(microbatch, peer!, carries!);
      case "SEND": return this.#send(microbatch, peer!, carries!);
      case "F": return this.#forward(microbatch);
      case "B": return this.#backward(microbatch);
      case "REDUCE": case "STEP": return; // the sum is complete after the last backward; the driver says when to step
      case "I": case "W": throw new RuntimeError("ERR_SCHEDULE", `stage ${this.#model.name}: a backward split into I and W cannot be run yet, got ${kind}${microbatch}. Use B.`, { kind, microbatch });
    }
  }

  async #receive(microbatch: number, peer: string, carries: Delivery["carries"]): Promise<void> {
    const tensors = await this.state.inbox.take(inboxKey(this.header.step, microbatch, peer, carries), this.signal);
    const key = `${carries}/${microbatch}`;
    this.#received.set(key, { ...this.#received.get(key), ...tensors });
    linkTo(this.state, peer).ref.credit.cast({ from: this.#model.name, carries });
  }

  #take(carries: Delivery["carries"], microbatch: number): Crossing {
    const tensors = this.#received.get(`${carries}/${microbatch}`) ?? {};
    this.#received.delete(`${carries}/${microbatch}`);
    return tensors;
  }

  async #forward(microbatch: number): Promise<void> {
    const { seed, precision, graph, nodes, name } = this.#model;
    const { step, counts, microbatches } = this.header;
    const context = { training: true, step, seed, counts, precision, sampleIds: microbatches[microbatch].sampleIds };
    const pass = new MicrobatchPass(graph, nodes, context, `microbatch ${microbatch} of step ${step} in ${name}`);
    this.#passes.set(microbatch, pass);
    pass.forward(this.#take("activations", microbatch), this.state.batch?.microbatches[microbatch]);
    this.#sums.push(microbatch, pass.sums());
    this.#scalars[microbatch] = await Promise.all(pass.scalars().map(async ([scalar, tensor]) => [scalar, await tensor.item()] as const));
  }

  async #backward(microbatch: number): Promise<void> {
    const { parameters, crossing } = this.#passes.get(microbatch)!.backward(this.#take("gradients", microbatch));
    this.#tree.push(microbatch, parameters);
    this.#gradientsOut.set(microbatch, crossing);
  }

  async #send(microbatch: number, peer: string, carries: Delivery["carries"]): Promise<void> {
    const link = linkTo(this.state, peer);
    const tensors = carries === "activations" ? this.#activationsFor(peer, microbatch) : this.#gradientsFor(peer, microbatch);
    await link.credits.get(carries)!.acquire(this.signal);
    const message = { step: this.header.step, microbatch, from: this.#model.name, carries };
    const sent = link.lane.send(tensors).then(({ descriptors, attachments }) => link.ref.deliver.cast({ ...message, descriptors }, { attachments }));
    sent.catch((reason: unknown) => { this.#failure ??= { reason }; }); // thrown by the next action, or by #finish
    this.#sending.set(microbatch, [...(this.#sending.get(microbatch) ?? []), sent]);
  }

  #activationsFor(peer: string, microbatch: number): Crossing {
    const edge = this.state.edges.find((edge) => edge.from === this.#model.name && edge.to === peer)!;
    const pass = this.#passes.get(microbatch)!;
    return Object.fromEntries(edge.tensors.map(({ from }) => [outputKey(...from), pass.value(...from)]));
  }

  #gradientsFor(peer: string, microbatch: number): Crossing {
    const { graph } = this.#model;
    const edge = this.state.edges.find((edge) => edge.from === peer && edge.to === this.#model.name)!;
    const outputs = new Set(edge.tensors.map(({ from }) => outputKey(...from)));
    const all = this.#gradientsOut.get(microbatch)!;
    return Object.fromEntries(graph.edges.filter((e) => outputs.has(outputKey(...e.from)) && all[edgeKey(e)]).map((e) => [edgeKey(e), all[edgeKey(e)]]));
  }

  /** After the last action of a microbatch: waits for its bytes to be out, then frees everything it made. */
  async #finish(microbatch: number): Promise<void> {
    await Promise.all(this.#sending.get(microbatch) ?? []);
    this.#sending.delete(microbatch);
    this.#gradientsOut.delete(microbatch);
    this.#passes.get(microbatch)?.close();
    this.#passes.delete(microbatch);
  }

  /** Frees what a failed step left. */
  abandon(): void {
    for (const pass of this.#passes.values()) pass.close();
    for (const crossing of this.#received.values()) for (const tensor of Object.values(crossing)) tensor.dispose();
    this.#tree.dispose();
    this.#sums.dispose();
  }
}

const inboxKey = (step: number, microbatch: number, from: string, carries: string): string => `${step}/${microbatch}/${from}/${carries}`;

function modelOf(state: State): StageModel {
  if (!state.model) throw new RuntimeError("ERR_ACTOR", "stage: asked to work before `build`.");
  return state.model;
}

function linkTo(state: State, peer: string): Link {
  const link = state.links.get(peer);
  if (!link) throw new RuntimeError("ERR_UNREACHABLE", `stage: no link to ${peer}. Links: ${[...state.links.keys()].join(", ") || "none"}.`, { peer });
  return link;
}

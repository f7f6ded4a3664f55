import { type ActorContext, type RefOf, defineActor } from "../../actor/index.ts";
import { type ShardEntry, saveShard } from "../../checkpoint/index.ts";
import { RuntimeError, fromFailure } from "../../errors.ts";
import { type EventLoopMeter, type Span, type Timeline, createTimeline, measureEventLoop, monotonicUs } from "../../metrics/index.ts";
import { native } from "../../native.ts";
import { DataCopies, type TensorPlace, joined, type Lane, type LaneName, type LeaseId, Shares, type TensorDescriptor, type Whereabouts, createLane, whereabouts } from "../../parallel/index.ts";
import type { HostBatch, ProcessStats } from "../../plugin/index.ts";
import { type Tensor, fastBf16, fence, memory } from "../../tensor/index.ts";
import type { Transport } from "../../transport/index.ts";
import { type CheckResult } from "../plan/check.ts";
import { Feed, type StepHeader, headerOf } from "./feed.ts";
import { Credits, Inbox } from "./inbox.ts";
import type { RankPlace } from "../plan/layout.ts";
import type { Crossing } from "./microbatch.ts";
import { type StageModel, type StageModelOptions, loadStageModel } from "./model.ts";
import type { RankProgress } from "./pulse.ts";
import { type AllOffers, type Offers, RankGroups } from "./rank-groups.ts";
import { type MessageName, messageKey, wayKey } from "../schedule/messages.ts";
import { type Work, workOf } from "./rank-work.ts";
import { StepRun } from "./step-run.ts";
import { type UpdateSettings, applyGradients, applySums } from "./update.ts";

/**
 * One process of a pipeline: a rank, which holds one stage or several and goes through its entries of the schedule. It does what
 * `trainer/step.ts` does, for its share of the components; tensors of other ranks arrive and leave as messages.
 *
 * STG-1: entries run in the order of the schedule; an entry waits for its messages, and the next one until the messages that it gives
 *        have credits.
 * STG-2: an edge has at most `credits` messages under way per direction; the receiver gives the credits back when an entry takes its messages.
 * STG-3: a tensor that is being sent stays alive until its bytes are out, one that is handed over within the rank until it was used;
 *        everything else of a microbatch goes with its scope.
 * STG-4: nothing here is swallowed: what fails while a message is sent or received fails the step.
 * STG-5: a step that waits ends at once when its caller gives up, its deadline passes, or a rank it shares an edge with is gone.
 * STG-6: a message is known by step, microbatch, edge and direction: whoever sends it, in whatever order.
 */
export interface RankSetup {
  transport: Transport;
  /** All links of this rank are up. */
  linked(): void;
  /** Turns the rank's part of a message of the driver into a checked recipe: plugins are known here only by name. */
  resolve(recipe: RankBuild["recipe"]): Promise<CheckResult>;
}

export interface RankBuild {
  rank: string;
  recipe: { text: string; file: string };
  model: Omit<StageModelOptions, "stages" | "tensor">;
}

export interface Introduction { whereabouts: Whereabouts; fastBf16: boolean }

export interface RankReport {
  /** Per microbatch, the scalars of the objectives here. */
  scalars: (readonly [name: string, value: number])[][];
  /** Sum of squares per parameter gradient. */
  squares: [name: string, sum: number][];
}

/** A message; `from` is the rank that sends it. */
export interface Delivery extends MessageName { from: string; descriptors: TensorDescriptor[] }

/** The way to another rank. `credits`: of the messages that this rank gives it, by edge and direction. */
export interface Link { lane: Lane; ref: RefOf<typeof rank>; credits: Map<string, Credits> }

export interface RankState {
  setup: RankSetup;
  meter: EventLoopMeter;
  timeline: Timeline;
  name: string;
  model?: StageModel;
  work?: Work;
  feed?: Feed;
  batch?: HostBatch;
  links: Map<string, Link>;
  /** Ends the interest in the lives of the linked ranks. */
  unwatch: (() => void)[];
  inbox: Inbox<Crossing>;
  groups?: RankGroups;
  /** Where this rank has data copies: who has what, and how to reach them. */
  shares?: Shares;
  copies?: DataCopies;
  gradients?: Map<string, Tensor>;
  moved: string[];
  sums?: Map<string, Tensor>;
  stepped: boolean;
  /** The step under way, or the last. */
  step: number;
  progress: RankProgress;
}

export const rankNode = (name: string): string => `worker-${name}`;

export const rank = defineActor({
  name: "rank",
  mailbox: { capacity: 4096 },
  interleave: ["deliver", "release", "credit", "progress"],

  init: (setup: RankSetup): RankState => ({
    setup, meter: measureEventLoop(), timeline: createTimeline({ stamp: () => native().stamp(), stampsTake: () => native().stampsTake() }), name: "", links: new Map(), unwatch: [], inbox: new Inbox(), moved: [], stepped: false, step: -1, progress: { done: 0, at: "its beginning" },
  }),

  endpoints: {
    /** What the driver must know of this process before it plans the run. */
    async introduce(): Promise<Introduction> {
      return { whereabouts: whereabouts(), fastBf16: fastBf16() };
    },

    /** Builds the components of its stages, with the values of a checkpoint where one is given. No tensor existed before. */
    async build(state: RankState, { rank: name, recipe, model }: RankBuild): Promise<{ peers: string[]; warnings: string[]; offers: Offers }> {
      const checked = await state.setup.resolve(recipe);
      state.name = name;
      const { place, stages } = state.work = workOf(checked, name);
      state.shares = place.layout.data > 1 ? sharesOf(checked, place, stages.flatMap(({ components }) => components)) : undefined;
      state.model = await loadStageModel(checked, { ...model, stages: stages.map((stage) => stage.name),
        remembers: (parameter) => state.shares?.steps(parameter) ?? true, tensor: placeAlong(state, "tensor"), context: placeAlong(state, "context"),
      });
      state.groups = new RankGroups(place, checked.layout.ranks);
      if (state.model.loader) {
        const { batch, microbatches, steps } = checked.recipe.train;
        state.feed = new Feed(state.model.loader, { seed: model.seed, batch, microbatches, steps });
      }
      return { warnings: state.model.warnings, peers: state.work.peers, offers: state.groups.offers() };
    },

    /** Opens the links to the ranks it shares an edge with, and joins its groups. All ends are told at the same time. */
    async link(state: RankState, { lanes, offers }: { lanes: Record<string, LaneName>; offers: AllOffers }, context: ActorContext): Promise<void> {
      const { entries, credits } = workOfRank(state);
      await Promise.all(Object.entries(lanes).map(async ([peer, lane]) => {
        await state.setup.transport.connect(rankNode(peer));
        const gives = entries.flatMap((entry) => entry.gives).filter((route) => route.peer === peer);
        const link: Link = {
          lane: createLane(lane, { node: rankNode(state.name) }), ref: context.system.remote(rank, rankNode(peer)),
          credits: new Map(gives.map((route) => [wayKey(route), credits(route)] as const).map(([way, limit]) => [way, new Credits(limit)])),
        };
        state.links.set(peer, link);
        state.unwatch.push(context.system.monitor(link.ref, ({ message, failure }) => {
          const gone = new RuntimeError("ERR_DEAD", `rank ${state.name}: ${peer} is gone, nothing comes from it any more: ${message}`, { rank: state.name, peer }, failure && { cause: fromFailure(failure) });
          state.inbox.fail(gone);
          for (const each of link.credits.values()) each.fail(gone);
          link.lane.peerDown(message);
        }));
      }));
      await state.groups!.join(offers, (failure) => {
        state.inbox.fail(failure);
        for (const { credits } of state.links.values()) for (const each of credits.values()) each.fail(failure);
      }, (group, enqueue) => state.timeline.device({ kind: "collective", name: group, step: state.step }, enqueue));
      const data = state.groups!.along("data");
      if (data) state.copies = new DataCopies(data, modelOf(state).parameters, state.shares!);
      state.setup.linked();
    },

    /** On the loader's rank: reads the batch of a step and says what everybody must know before its first forward. */
    async header(state: RankState, { step }: { step: number }): Promise<StepHeader> {
      state.batch = await state.timeline.host({ kind: "loader", name: `batch ${step}`, step }, () => state.feed!.batch(step));
      return headerOf(state.batch);
    },

    /** Runs the schedule of one step up to, not including, the optimizer. */
    async step(state: RankState, { header, trace }: { header: StepHeader; trace: boolean }, { signal }: ActorContext): Promise<RankReport> {
      state.timeline.on = trace;
      state.step = header.step;
      if (!state.stepped) state.meter.reset(); // how the event loop fares while training, not while loading
      state.stepped = true;
      const run = new StepRun({
        rank: state.name, model: modelOf(state), work: workOfRank(state), header, batch: state.batch, inbox: state.inbox, link: (peer) => linkTo(state, peer), signal, timeline: state.timeline,
        reached: (at) => void (state.progress = { done: state.progress.done + 1, at }),
        copies: state.copies, shares: state.shares,
      });
      try {
        const { report, gradients, moved, sums } = await run.run();
        Object.assign(state, { gradients, moved, sums });
        return report;
      } catch (error) {
        run.abandon();
        throw error;
      }
    },

    /** How far it has come, whatever it does (PU-1, PU-2). */
    progress: (state: RankState): RankProgress => state.progress,

    /** The optimizer's part of the step, and what comes after it; the gradients and sums of `step` are used up. */
    async apply(state: RankState, settings: UpdateSettings): Promise<void> {
      const { parameters, optimizer, nodes } = modelOf(state);
      state.timeline.device({ kind: "optimizer", name: "update", step: settings.step }, () => {
        if (state.gradients) applyGradients(parameters, ownOf(state.gradients, state.shares), optimizer, settings);
        state.copies?.spread(parameters, state.moved);
        if (state.sums) applySums(nodes, state.sums);
      });
      for (const { lane } of state.links.values()) lane.forget(); // what was the same in all of its microbatches
      state.gradients = state.sums = undefined;
    },

    /** A shard per stage, so that a checkpoint does not tell how stages were dealt to processes; what data copies share out is in their own. */
    async save(state: RankState, { folder }: { folder: string }): Promise<ShardEntry[]> {
      const { stages, optimizer } = modelOf(state), { leads, place } = workOfRank(state), tensor = state.groups!.along("tensor"), entries: ShardEntry[] = [];
      if (place.context > 0) return entries; // has what its leader has
      for (const { name, parameters } of stages) {
        const own = Object.fromEntries(Object.entries(parameters).filter(([parameter]) => state.shares?.saves(parameter) ?? true));
        entries.push(...await saveShard(leads ? folder : undefined, place.data === 0 ? name : `${name}-d${place.data}`, own, optimizer, tensor && ((parameter, value) => joined(parameter, value, tensor))));
      }
      return entries;
    },

    /** What the traced steps did here, and what this host's clock says now. */
    async spans(state: RankState): Promise<{ spans: Span[]; nowUs: number }> {
      await fence();
      return { spans: state.timeline.take(), nowUs: monotonicUs() };
    },

    async stats(state: RankState): Promise<ProcessStats> {
      return { memory: memory(), eventLoop: state.meter.read(), loader: state.model?.loader?.stats() ?? {} };
    },

    async deliver(state: RankState, { descriptors, from, ...message }: Delivery, context: ActorContext): Promise<void> {
      const link = linkTo(state, from);
      try {
        const label = { kind: "transfer", name: `${message.carries} ${message.microbatch} of ${from}`, step: message.step, microbatch: message.microbatch, peer: from } as const;
        const { tensors, done } = await state.timeline.device(label, () => link.lane.receive(descriptors, context.attachments));
        state.inbox.put(messageKey(message), tensors);
        const leases = await done;
        if (leases.length > 0) link.ref.release.cast({ from: state.name, leases });
      } catch (error) {
        // Whoever waits for this message, now or later, learns why it will not come: the step fails (STG-4). The rank does not: most
        // often the sender has died and its memory with it, and a rank that went with it would look like the cause.
        state.inbox.fail(error);
      }
    },

    async release(state: RankState, { from, leases }: { from: string; leases: LeaseId[] }): Promise<void> {
      linkTo(state, from).lane.release(leases);
    },

    async credit(state: RankState, { from, ...way }: Pick<MessageName, "edge" | "carries"> & { from: string }): Promise<void> {
      linkTo(state, from).credits.get(wayKey(way))!.giveBack();
    },
  },

  async terminate(state) {
    state.meter.stop();
    for (const unwatch of state.unwatch) unwatch();
    for (const crossing of state.inbox.drain()) for (const tensor of Object.values(crossing)) tensor.dispose();
    for (const tensor of [...(state.gradients?.values() ?? []), ...(state.sums?.values() ?? [])]) tensor.dispose();
    for (const link of state.links.values()) link.lane.close();
    state.groups?.close();
    await state.model?.close();
  },
});

function placeAlong(state: RankState, axis: "tensor" | "context"): TensorPlace {
  const { place } = workOfRank(state);
  return { rank: place[axis], size: place.layout[axis], group: () => state.groups!.along(axis)! };
}

/** Of what learns in these components. */
function sharesOf({ graph, recipe }: CheckResult, place: RankPlace, components: readonly string[]): Shares {
  const learning = graph.nodes.filter(({ name, frozen }) => !frozen && components.includes(name));
  return new Shares(learning.flatMap(({ parameters }) => Object.entries(parameters)), place.data, place.layout.data, recipe.train.zero);
}

/** What this copy steps; the gradients that others step are freed. */
function ownOf(gradients: Map<string, Tensor>, shares: Shares | undefined): Map<string, Tensor> {
  if (!shares) return gradients;
  for (const [name, tensor] of gradients) if (!shares.steps(name)) tensor.dispose();
  return new Map([...gradients].filter(([name]) => shares.steps(name)));
}

function modelOf(state: RankState): StageModel {
  if (!state.model) throw new RuntimeError("ERR_ACTOR", "rank: asked to work before `build`.");
  return state.model;
}

function workOfRank(state: RankState): Work {
  if (!state.work) throw new RuntimeError("ERR_ACTOR", "rank: asked to work before `build`.");
  return state.work;
}

function linkTo(state: RankState, peer: string): Link {
  const link = state.links.get(peer);
  if (!link) throw new RuntimeError("ERR_UNREACHABLE", `rank ${state.name}: no link to ${peer}. Links: ${[...state.links.keys()].join(", ") || "none"}.`, { peer });
  return link;
}

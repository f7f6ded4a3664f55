/**
 * A pipeline of real ranks in one process: the real actors, schedules and lanes, components so small that a step takes milliseconds,
 * links with seeded delays, and a clock that stands still, so that whatever waits for a deadline waits for ever.
 */
import { z } from "zod";
import { adamwOptimizer } from "../../../plugins/optimizer/adamw.ts";
import { type ActorSystem, createActorSystem } from "../../../runtime/actor/index.ts";
import { simulatedClock } from "../../../runtime/clock.ts";
import { Parameter } from "../../../runtime/nn/index.ts";
import { add, linear, mean, mul } from "../../../runtime/ops/index.ts";
import { checkRecipe } from "../../../runtime/pipeline/plan/check.ts";
import { rank, rankNode } from "../../../runtime/pipeline/run/rank.ts";
import { parseRecipe } from "../../../runtime/pipeline/recipe/recipe.ts";
import { type Components, type DataLoader, createRegistry, definePlugin, port } from "../../../runtime/plugin/index.ts";
import { createHub } from "../../../runtime/transport/in-process.ts";
import type { Transport } from "../../../runtime/transport/transport.ts";

const width = 4;
/** Called whenever something happens that a kill could come before: a message arrives, a component goes forward. */
let happens: (node: string) => void = () => {};

const numbers = definePlugin({
  kind: "data-loader", name: "numbers", version: "1.0.0", options: z.strictObject({}), counts: ["text_tokens"],
  ports: () => ({ in: {}, out: { x: port(["B", width], { gradient: false }) } }),
  create: () => ({
    open: async () => {}, close: async () => {}, stats: () => ({}),
    async batch({ step, batch, microbatches }: Parameters<DataLoader["batch"]>[0]) {
      const rows = batch / microbatches;
      return {
        step, counts: { text_tokens: batch },
        microbatches: Array.from({ length: microbatches }, (_, m) => ({
          sampleIds: Array.from({ length: rows }, (_, i) => m * rows + i), keys: Array.from({ length: rows }, (_, i) => `${m}.${i}`),
          tensors: { x: { dtype: "f32" as const, shape: [rows, width], data: Float32Array.from({ length: rows * width }, (_, i) => (i % 5) - 2 + m) } },
        })),
      };
    },
  }) as unknown as Components["data-loader"],
});

const mapOf = <K extends "image-encoder" | "text-encoder">(kind: K) => definePlugin({
  kind, name: "map", version: "1.0.0", options: z.strictObject({}),
  ports: () => ({ in: { x: port(["B", width], { gradient: false }) }, out: { states: port(["B", width]) } }),
  create: () => {
    const weight = new Parameter([width, width], { kind: "normal", std: 1 });
    return { parameters: () => ({ [`${kind}.weight`]: weight }), forward: ({ x }: Record<string, never>) => (happens(kind), { states: linear(x, weight.value) }) } as unknown as Components[K];
  },
});

const both = definePlugin({
  kind: "fusion", name: "both", version: "1.0.0", options: z.strictObject({}),
  ports: () => ({ in: { image: port(["B", width]), text: port(["B", width]) }, out: { memory: port(["B", width]) } }),
  create: () => {
    const weight = new Parameter([width, width], { kind: "normal", std: 1 });
    return { parameters: () => ({ "fusion.weight": weight }), forward: ({ image, text }) => (happens("fusion"), { memory: linear(add(image, text), weight.value) }) };
  },
});

const small = definePlugin({
  kind: "objective", name: "small", version: "1.0.0", options: z.strictObject({}), counts: ["text_tokens"],
  ports: () => ({ in: { memory: port(["B", width]) }, out: { loss: port([1]) } }),
  create: () => ({ parameters: () => ({}), forward: ({ memory }) => ({ loss: mean(mul(memory, memory)) }) }),
});

const registry = createRegistry([numbers, mapOf("image-encoder"), mapOf("text-encoder"), both, small, adamwOptimizer]);

export const schedules = ["1f1b", "fill-drain", "zb-h1"] as const;
const recipeText = (schedule: string): string => `name: kills
components:
  pages: { use: data-loader/numbers }
  image: { use: image-encoder/map, in: { x: pages.x } }
  text: { use: text-encoder/map, in: { x: pages.x } }
  fusion: { use: fusion/both, in: { image: image.states, text: text.states } }
  loss: { use: objective/small, in: { memory: fusion.memory } }
stages:
  pages: [pages]
  image: [image]
  text: [text]
  fusion: [fusion, loss]
train: { steps: 4, batch: 8, microbatches: 4, threads: 1, schedule: ${schedule}, optimizer: { use: optimizer/adamw } }
`;

export interface KillWorld {
  names: readonly string[];
  systems: Map<string, ActorSystem>;
  driver: ActorSystem;
  /** All steps; rejects with the first failure, having given up what the others were asked. */
  run(): Promise<void>;
  /** Ends the links of a rank and its process' share in this one, as its death would; at the `at`th event from now. */
  killAt(victim: string, at: number): void;
  /** How many events there were. */
  readonly events: number;
  readonly killed: boolean;
  end(): Promise<void>;
}

/** A turn for some messages, several for others; the order of a link stays. */
function delayed(inner: Transport, random: (n: number) => number): Transport {
  let handler: ((from: string, frames: Uint8Array[]) => void) | undefined;
  const lines = new Map<string, Promise<void>>();
  inner.onMessage((from, frames) => {
    const turns = random(4) === 0 ? random(4) : 0;
    lines.set(from, (lines.get(from) ?? Promise.resolve()).then(async () => {
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
      happens(inner.node);
      handler?.(from, frames);
    }));
  });
  return {
    node: inner.node, send: (to, frames, options) => inner.send(to, frames, options), onMessage: (given) => void (handler = given),
    onPeerUp: (given) => inner.onPeerUp(given), onPeerDown: (given) => inner.onPeerDown(given), connect: (node, options) => inner.connect(node, options),
    disconnect: (node) => inner.disconnect(node), peers: () => inner.peers(), close: () => inner.close(),
  };
}

export async function killWorld(schedule: string, random: (n: number) => number): Promise<KillWorld> {
  const clock = simulatedClock(), hub = createHub({ clock }), steps = 2;
  const systems = new Map<string, ActorSystem>(), stopping: Promise<void>[] = [];
  const file = "kills.yaml", text = recipeText(schedule), resolve = () => checkRecipe(parseRecipe(text, file), registry);
  const names = (await resolve()).schedule.ranks;
  let events = 0, killed = false, kill: { victim: string; at: number } | undefined;
  happens = () => {
    if (++events !== kill?.at) return;
    killed = true;
    hub.kill(rankNode(kill.victim));
    stopping.push(systems.get(kill.victim)!.stop()); // what the operating system would take back
  };
  const toDriver = hub.transport("driver");
  const driver = createActorSystem({ node: "driver", transport: delayed(toDriver, random), clock });
  driver.onFailure(() => {}); // casts that came back from the dead
  for (const name of names) {
    const transport = delayed(hub.transport(rankNode(name)), random);
    const system = createActorSystem({ node: rankNode(name), transport, clock });
    system.onFailure(() => {});
    await system.spawn(rank, { transport, linked: () => {}, resolve });
    await Promise.all([transport.connect("driver"), toDriver.connect(rankNode(name))]);
    systems.set(name, system);
  }
  const refs = names.map((name) => driver.remote(rank, rankNode(name)));
  /** As the driver of a run asks: the first failure ends the asking. */
  const ask = async <T>(work: (ref: (typeof refs)[number], i: number, signal: AbortSignal) => Promise<T>): Promise<T[]> => {
    const rest = new AbortController();
    try {
      return await Promise.all(refs.map((ref, i) => work(ref, i, rest.signal)));
    } catch (error) {
      rest.abort(error);
      throw error;
    }
  };
  const built = await ask((ref, i) => ref.build.call({ rank: names[i], recipe: { text, file }, model: { seed: 1, precision: "f32" } }));
  await ask((ref, i) => ref.link.call({ lanes: Object.fromEntries(built[i].peers.map((peer) => [peer, "in-process" as const])), offers: {} }));
  const loader = names.indexOf("pages");
  return {
    names, systems, driver,
    get events() { return events; },
    get killed() { return killed; },
    killAt: (victim, at) => void (kill = { victim, at: events + at }),
    async run() {
      for (let step = 0; step < steps; step++) {
        const header = await refs[loader].header.call({ step });
        await ask((ref, _, signal) => ref.step.call({ header, trace: false }, { signal }));
        await ask((ref, _, signal) => ref.apply.call({ step, learningRate: 0.01, gradScale: 1 }, { signal }));
      }
    },
    async end() {
      happens = () => {};
      await Promise.all([...stopping, driver.stop(), ...[...systems.values()].map((system) => system.stop())]);
    },
  };
}

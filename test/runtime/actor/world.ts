import { simulatedClock } from "../../../runtime/clock.ts";
import type { ActorDefinition, Endpoints, Ref } from "../../../runtime/actor/definition.ts";
import { type ActorSystem, type SpawnOptions, type UnhandledFailure, createActorSystem } from "../../../runtime/actor/system.ts";
import { createHub, type Hub } from "../../../runtime/transport/in-process.ts";

/** Where a test lives: actors are spawned in `there` and used from `here`; the clock moves by hand. */
export interface World {
  clock: ReturnType<typeof simulatedClock>;
  here: ActorSystem;
  there: ActorSystem;
  hub?: Hub;
  /** Unhandled failures, of both systems. */
  failures: UnhandledFailure[];
  spawn<C, S, E extends Endpoints<S>>(d: ActorDefinition<C, S, E>, config: C, o?: SpawnOptions): Promise<Ref<E>>;
  end(): Promise<void>;
}

async function world(nodes: 1 | 2): Promise<World> {
  const clock = simulatedClock();
  const failures: UnhandledFailure[] = [];
  const hub = nodes === 2 ? createHub({ clock }) : undefined;
  const [a, b] = [hub?.transport("here"), hub?.transport("there")];
  const here = createActorSystem({ node: "here", clock, transport: a });
  const there = b ? createActorSystem({ node: "there", clock, transport: b }) : here;
  await Promise.all([a?.connect("there"), b?.connect("here")]);
  for (const system of new Set([here, there])) system.onFailure((failure) => failures.push(failure));
  return {
    clock, here, there, hub, failures,
    async spawn(d, config, o) {
      await there.spawn(d, config, o);
      return here.remote(d, there.node, o?.name);
    },
    async end() {
      const stopped = Promise.all([here.stop(), there.stop()]);
      for (let i = 0; i < 3; i++) { // handlers that a test left hanging run out of their grace
        await settled();
        clock.advance(5000);
      }
      await stopped;
    },
  };
}

/** The same promises hold whether a message stays in its process or is encoded and carried to another node. */
export const worlds: Record<string, () => Promise<World>> = {
  "in one node": () => world(1),
  "between two nodes": () => world(2),
};

/** All that is under way in this process has happened: microtasks, and the turns of the event loop that links need. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
}

export function gate(): { opened: Promise<void>; open(): void } {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

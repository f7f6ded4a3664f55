import { type ActorContext, defineActor } from "../../../runtime/actor/definition.ts";

/** What the child process of two-processes.test.ts answers; the test imports it for its types. */
export const echo = defineActor({
  name: "echo",
  init: () => ({ received: 0, noted: "" }),
  endpoints: {
    add: (_, n: number) => n + 1,
    same: (_, word: string) => word,
    bytes: (_, __: undefined, { attachments }: ActorContext) => attachments.map((a) => [a.byteLength, a.reduce((sum, b) => (sum + b) % 65_521, 0)]),
    tell: (state) => void state.received++,
    told: (state) => state.received,
    hold: (_, __: undefined, { signal }: ActorContext) => new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve())),
    note: (state, word: string) => (state.noted += word),
    trip: () => {
      throw new Error("tripped");
    },
    fail: () => {
      throw new Error("no such page", { cause: new Error("ENOENT") });
    },
  },
  interleave: ["note"],
});

/** One member of a group under test: see group-processes.ts. Told who it is by its arguments, everything else by messages. */
import { toFailure } from "../../../runtime/errors.ts";
import { native } from "../../../runtime/native.ts";
import { type Group, type GroupOffer, joinGroup, offerGroup } from "../../../runtime/parallel/groups/collectives.ts";
import { configureDevice, memory } from "../../../runtime/tensor/index.ts";

type Order = { offers: GroupOffer[] } | { body: string; argument: unknown } | { close: true };

const { module, ...seatOptions } = JSON.parse(process.argv[2]);
const bodies: Record<string, (group: Group, argument: unknown) => Promise<unknown>> = await import(module);
const send = (message: object): void => void process.send!(message);

native();
configureDevice({ threads: 1 });
const seat = offerGroup(seatOptions);
let group: Group | undefined;

async function obey(order: Order): Promise<object> {
  if ("offers" in order) {
    group = await joinGroup(seat, order.offers, { timeoutMs: 20_000 });
    return { done: undefined };
  }
  if ("close" in order) {
    group?.close();
    setImmediate(() => process.disconnect());
    return { done: undefined };
  }
  const before = memory().tensors;
  const done = await bodies[order.body](group!, order.argument);
  const leaked = memory().tensors - before;
  if (leaked !== 0) throw new Error(`${order.body} left ${leaked} tensors behind`);
  return { done };
}

process.on("message", (order: Order) => {
  obey(order).then(send, (error) => send({ failure: toFailure(error) }));
});
process.once("disconnect", () => group?.close());
send({ offer: seat.offer });

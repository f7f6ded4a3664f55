import { type Tensor, clone, enteredScope, owned, viewOf } from "../../tensor/index.ts";
import type { Lane } from "./lanes.ts";
import type { RoundingLane } from "./rounding.ts";
import { type TensorDescriptor, describe, laneError } from "./tensor-frames.ts";

/** LA-8: a tensor that the receiver holds is not sent again. Numbers count the tensors that one end had kept by the other. */
export function keepingLane(lane: RoundingLane): Lane {
  const given = new Map<string, { version: string; number: number; descriptor: Promise<TensorDescriptor> }>();
  const kept = new Map<string, { number: number; tensor: Promise<Tensor> }>();
  let numbers = 0;

  function forget(): void {
    given.clear();
    for (const { tensor } of kept.values()) void tensor.then((held) => held.dispose(), () => undefined); // who failed to receive it knows
    kept.clear();
  }

  /** A copy of its own: the lease of the message must not last as long as the keeping. */
  function keep(name: string, number: number, arriving: Promise<Record<string, Tensor>>): void {
    const before = kept.get(name);
    const tensor = arriving.then((tensors) => {
      const copy = owned(clone(tensors[name]));
      copy.lock(`lane ${lane.name} keeps it for the messages to come`);
      return copy;
    });
    tensor.catch(() => undefined); // whoever receives it, and whoever gets the same later, learns
    kept.set(name, { number, tensor });
    void before?.tensor.then((held) => held.dispose(), () => undefined);
  }

  async function sameAs(d: TensorDescriptor): Promise<Tensor> {
    const held = kept.get(d.name);
    if (held?.number !== d.same) throw laneError(lane.name, d, `it is said to be number ${d.same} of what is kept here, which is ${held ? `number ${held.number}` : "nothing of this name"}`);
    const tensor = await held!.tensor;
    return owned(viewOf(tensor, tensor.shape));
  }

  return {
    ...lane,
    forget,
    async send(tensors, { versions = {}, compress } = {}) {
      const going: Record<string, Tensor> = {}, same = new Map<string, { number: number; descriptor: Promise<TensorDescriptor> }>(), keeping = new Map<string, number>();
      const told = new Map<string, { resolve(d: TensorDescriptor): void; reject(reason: unknown): void }>();
      for (const [name, tensor] of Object.entries(tensors)) {
        const version = versions[name], before = given.get(name);
        if (version !== undefined && before?.version === version) {
          describe(name, tensor, { generation: 0, producer: "", lane: lane.name }); // refuses a freed one, as ever
          same.set(name, before);
          continue;
        }
        going[name] = tensor;
        if (version === undefined) continue;
        const number = ++numbers;
        const descriptor = new Promise<TensorDescriptor>((resolve, reject) => void told.set(name, { resolve, reject }));
        descriptor.catch(() => undefined); // this send rejects, and whoever counted on it
        given.set(name, { version, number, descriptor });
        keeping.set(name, number);
      }
      try {
        const { descriptors, attachments } = await lane.send(going, { compress });
        const sent = new Map(descriptors.map((d) => [d.name, keeping.has(d.name) ? { ...d, keep: keeping.get(d.name)! } : d]));
        for (const [name, { resolve }] of told) resolve(sent.get(name)!);
        for (const [name, { number, descriptor }] of same) {
          const { producer, dtype, shape, byteLength, generation } = await descriptor; // its bytes leave before this message does
          sent.set(name, { name, producer, dtype, shape, byteLength, generation, lane: lane.name, same: number });
        }
        return { descriptors: Object.keys(tensors).map((name) => sent.get(name)!), attachments };
      } catch (error) {
        for (const [name, { reject }] of told) {
          given.delete(name);
          reject(error);
        }
        throw error;
      }
    },
    async receive(descriptors, attachments) {
      const scope = enteredScope();
      const arriving = lane.receive(descriptors.filter((d) => d.same === undefined), attachments);
      for (const d of descriptors) if (d.keep !== undefined) keep(d.name, d.keep, arriving.then(({ tensors }) => tensors));
      const views = descriptors.filter((d) => d.same !== undefined).map(async (d) => [d.name, await sameAs(d)] as const);
      const [arrived, ...others] = await Promise.allSettled([arriving, ...views]);
      const failed = [arrived, ...others].find((outcome) => outcome.status === "rejected");
      const held = others.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
      if (failed) {
        for (const [, tensor] of held) tensor.dispose();
        if (arrived.status === "fulfilled") for (const tensor of Object.values(arrived.value.tensors)) tensor.dispose();
        throw (failed as PromiseRejectedResult).reason;
      }
      const { tensors, done } = (arrived as PromiseFulfilledResult<Awaited<typeof arriving>>).value;
      for (const [name, tensor] of held) tensors[name] = scope ? scope.adopt(tensor) : tensor;
      return { tensors: Object.fromEntries(descriptors.map(({ name }) => [name, tensors[name]])), done };
    },
    close() {
      forget();
      lane.close();
    },
  };
}

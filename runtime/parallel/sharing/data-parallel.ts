/**
 * What a rank does with the other copies of its process: sums of gradients, and with ZeRO who keeps what.
 *
 * DP-1: copies call in the same order, tensors in the order of names given: sums are the group's pairwise tree (CG-1), so copies of a power of
 *       two give the bits of one process.
 * DP-2: zero 0: every copy has every sum and steps every parameter. 1: the owner steps, its new values go to all. 2: sums go to the owner only.
 *       3: values are with the owner; a component's are everywhere only while it runs (`sharded-state.ts`).
 * DP-3: what one copy reports (squares) and saves, no other does (`Shares`).
 */
import type { Parameters } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { broadcastValues, bucketsOf, together } from "./buckets.ts";
import type { Group } from "../groups/collectives.ts";
import { ShardedValues, type Shares } from "./sharded-state.ts";

type Sums = Pick<Group, "rank" | "size" | "allReduce" | "reduce" | "broadcast">;

export class DataCopies {
  /** With zero 3. */
  readonly values: ShardedValues | undefined;

  /** `parameters`: all of this rank, with values. */
  constructor(private readonly group: Sums, parameters: Parameters, private readonly shares: Shares) {
    if (shares.zero >= 3) this.values = new ShardedValues(group, Object.entries(parameters), shares);
  }

  /** Sums over the copies, in place. With zero 2 and 3 only the owner's; what is another's is freed. -> what this rank has of it. */
  reduce(gradients: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
    if (this.shares.zero < 2) {
      this.sum(gradients);
      return new Map(gradients);
    }
    for (let owner = 0; owner < this.group.size; owner++) {
      const owned = [...gradients].filter(([name]) => this.shares.owner(name) === owner).map(([, tensor]) => ({ tensor })), mine = owner === this.group.rank;
      for (const bucket of bucketsOf(owned)) together(bucket, (flat) => this.group.reduce(flat, owner), { sends: true, receives: mine });
      if (!mine) for (const { tensor } of owned) tensor.dispose();
    }
    return new Map([...gradients].filter(([name]) => this.shares.steps(name)));
  }

  /** Sums over the copies, in place, for all of them. */
  sum(tensors: ReadonlyMap<string, Tensor>): void {
    for (const bucket of bucketsOf([...tensors].map(([, tensor]) => ({ tensor })))) together(bucket, (flat) => this.group.allReduce(flat), { sends: true, receives: true });
  }

  /** After the owners have stepped: their new values, for all. `names`: what moved, the same on every copy. */
  spread(parameters: Parameters, names: Iterable<string>): void {
    const { zero } = this.shares;
    if (zero === 1 || zero === 2) broadcastValues(this.group, [...names].map((name) => [name, parameters[name]] as const), (name) => this.shares.owner(name));
  }
}

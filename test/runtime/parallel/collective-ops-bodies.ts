/** Forward and gradient of one collective op: for collective-ops.test.ts. */
import { Tape } from "../../../runtime/autograd/index.ts";
import * as collective from "../../../runtime/parallel/groups/collective-ops.ts";
import type { Group } from "../../../runtime/parallel/groups/collectives.ts";
import { Scope, fromArray } from "../../../runtime/tensor/index.ts";

export type Op = keyof typeof collective;
export interface Question { op: Op; shape: readonly number[]; axis: number }

/** x (rank by rank, or alike) and the gradient of the output: whole numbers, so that sums are exact. */
export const given = (seed: number, size: number): Float64Array => Float64Array.from({ length: size }, (_, i) => ((i + 1) * (seed + 3)) % 17 - 8);

export async function answer(group: Group, { op, shape, axis }: Question): Promise<{ y: Float64Array; shape: readonly number[]; dx: Float64Array }> {
  const scope = new Scope(op), tape = new Tape(), alike = op === "enter" || op === "part", size = shape.reduce((a, b) => a * b, 1);
  try {
    const { y, dx } = scope.enter(() => {
      const x = tape.watch(fromArray(given(alike ? 0 : group.rank, size), shape, "f64"));
      const y = tape.record(() => (op === "enter" || op === "leave" ? collective[op](x, group) : collective[op](x, group, axis)));
      const dy = fromArray(given(op === "leave" || op === "gather" ? 5 : 5 + group.rank, y.size), y.shape, "f64");
      return { y, dx: tape.backward([[y, dy]]).get(x)! };
    });
    return { y: (await y.read()) as Float64Array, shape: y.shape, dx: (await dx.read()) as Float64Array };
  } finally {
    scope.close();
  }
}

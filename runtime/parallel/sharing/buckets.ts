import type { Parameter } from "../../nn/index.ts";
import { join } from "../../ops/shape.ts";
import { type Tensor, allocate, bytesPerElement, kernel, viewOf } from "../../tensor/index.ts";
import type { Group } from "../groups/collectives.ts";

/** Small tensors travel together: a collective costs as much for a hundred bytes as for some ten thousand. */
const smallBytes = 256 << 10, bucketBytes = 4 << 20;

const sliceKernel = kernel("slice_forward");

/**
 * Tensors in runs that one collective carries: a large one alone, small ones of one dtype one after the other. The same names and shapes in
 * the same order give the same runs on every rank.
 */
export function bucketsOf<T extends { tensor: Tensor }>(all: readonly T[]): T[][] {
  const buckets: T[][] = [];
  let open: { bucket: T[]; bytes: number } | undefined;
  for (const each of all) {
    const { dtype, size } = each.tensor, bytes = size * bytesPerElement(dtype);
    if (bytes === 0) continue;
    if (bytes > smallBytes) buckets.push([each]);
    else if (open && open.bucket[0].tensor.dtype === dtype && open.bytes + bytes <= bucketBytes) open.bucket.push(each), open.bytes += bytes;
    else buckets.push((open = { bucket: [each], bytes }).bucket);
  }
  return buckets;
}

/** All of them in order, flat, in storage of its own. The caller disposes it. */
export function packed(tensors: readonly Tensor[]): Tensor {
  const views = tensors.map((tensor) => viewOf(tensor, [tensor.size]));
  let parts: readonly Tensor[] = views;
  do {
    const joined: Tensor[] = [];
    for (let i = 0; i < parts.length; i += 8) joined.push(join(parts.slice(i, i + 8), 0));
    for (const part of parts) part.dispose();
    parts = joined;
  } while (parts.length > 1);
  parts[0].scope?.keep(parts[0]);
  return parts[0];
}

/** The inverse: flat's elements into the tensors, in place. */
export function unpack(flat: Tensor, tensors: readonly Tensor[]): void {
  let start = 0;
  for (const tensor of tensors) {
    const view = viewOf(tensor, [tensor.size]);
    sliceKernel([flat, view], [0, start]);
    view.dispose();
    start += tensor.size;
  }
}

/** Everybody gets the owners' values, in place. */
export function broadcastValues(group: Pick<Group, "rank" | "size" | "broadcast">, parameters: readonly (readonly [name: string, parameter: Parameter])[], ownerOf: (name: string) => number): void {
  for (let owner = 0; owner < group.size; owner++) {
    const owned = parameters.filter(([name]) => ownerOf(name) === owner).map(([, { value }]) => ({ tensor: value })), mine = owner === group.rank;
    for (const bucket of bucketsOf(owned)) together(bucket, (flat) => group.broadcast(flat, owner), { sends: mine, receives: !mine });
  }
}

/** One call for the tensors of a bucket. `sends`: their elements matter to it; `receives`: its result is theirs. */
export function together(bucket: readonly { tensor: Tensor }[], call: (flat: Tensor) => void, { sends, receives }: { sends: boolean; receives: boolean }): void {
  const tensors = bucket.map(({ tensor }) => tensor);
  if (tensors.length === 1) return call(tensors[0]);
  const flat = sends ? packed(tensors) : allocate([tensors.reduce((size, tensor) => size + tensor.size, 0)], tensors[0].dtype);
  call(flat);
  if (receives) unpack(flat, tensors);
  flat.dispose();
}

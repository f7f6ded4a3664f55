import { RuntimeError } from "../../errors.ts";
import { bytesPer, elements, type StoredEntry, type StoredTensor } from "../stored.ts";
import type { Move } from "./family.ts";

/** Query and key heads of the component, for rotary rows. */
export interface Heads { heads?: number; kvHeads?: number }

/** The shape that a move gives. */
export function movedShape(shape: readonly number[], move: Move | undefined): readonly number[] {
  return move === "transpose" ? [...shape].reverse() : shape;
}

/** Theirs -> ours, whatever the dtype: only bytes change place. */
export function moved(tensor: StoredTensor, move: Move | undefined, heads: Heads, name: string): StoredTensor {
  if (move === undefined) return tensor;
  if (move === "transpose") return transposed(tensor);
  return rowsMoved(tensor, headsOf(move, heads, name), name, (pair, half, width) => ({ to: half * (width / 2) + pair, from: 2 * pair + half }));
}

/** Ours -> theirs. */
export function movedBack(tensor: StoredTensor, move: Move | undefined, heads: Heads, name: string): StoredTensor {
  if (move === undefined) return tensor;
  if (move === "transpose") return transposed(tensor);
  return rowsMoved(tensor, headsOf(move, heads, name), name, (pair, half, width) => ({ to: 2 * pair + half, from: half * (width / 2) + pair }));
}

/** Rows of several tensors one after another: (a, N), (b, N) -> (a + b, N). Theirs -> ours of queries, keys and values. */
export function joinedEntry(parts: readonly StoredEntry[], name: string): StoredEntry {
  const [{ dtype, shape: [, ...rest] }] = parts;
  if (parts.some((part) => part.dtype !== dtype || part.shape.slice(1).join() !== rest.join() || part.shape.length === 0)) {
    throw new RuntimeError("ERR_CHECKPOINT", `${name}: its parts ${parts.map((part) => `${part.dtype} (${part.shape.join(", ")})`).join(", ")} do not fit under one another.`, { name });
  }
  return { dtype, shape: [parts.reduce((rows, part) => rows + part.shape[0], 0), ...rest] };
}

/** The `index`-th of `count` equal groups of rows. */
export function rowsOf(tensor: StoredTensor, index: number, count: number): StoredTensor {
  const bytes = tensor.data.byteLength / count;
  return { dtype: tensor.dtype, shape: [tensor.shape[0] / count, ...tensor.shape.slice(1)], data: tensor.data.subarray(index * bytes, (index + 1) * bytes) };
}

function headsOf(move: Move, { heads, kvHeads }: Heads, name: string): number {
  const count = move === "halves-of-heads" ? heads : kvHeads;
  if (count === undefined) throw new RuntimeError("ERR_CHECKPOINT", `${name}: the number of heads must be known to put its rotary rows in order. Set the options heads and kv_heads.`, { name });
  return count;
}

/** (a, b) -> (b, a) */
function transposed({ dtype, shape, data }: StoredTensor): StoredTensor {
  const [rows, columns] = shape, size = bytesPer[dtype];
  const result = new Uint8Array(data.byteLength);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const from = (r * columns + c) * size, to = (c * rows + r) * size;
      for (let b = 0; b < size; b++) result[to + b] = data[from + b];
    }
  }
  return { dtype, shape: [columns, rows], data: result };
}

/** Rows within each head, by where they come from and go to. */
function rowsMoved(tensor: StoredTensor, heads: number, name: string, place: (pair: number, half: number, width: number) => { from: number; to: number }): StoredTensor {
  const { shape, data } = tensor, width = shape[0] / heads;
  if (!Number.isInteger(width) || width % 2 !== 0) throw new RuntimeError("ERR_CHECKPOINT", `${name}: ${shape[0]} rows are not ${heads} heads of an even width.`, { name, shape, heads });
  const rowBytes = (elements(shape) / shape[0]) * bytesPer[tensor.dtype];
  const result = new Uint8Array(data.byteLength);
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < width / 2; pair++) {
      for (const half of [0, 1]) {
        const { from, to } = place(pair, half, width);
        result.set(data.subarray((head * width + from) * rowBytes, (head * width + from + 1) * rowBytes), (head * width + to) * rowBytes);
      }
    }
  }
  return { ...tensor, data: result };
}

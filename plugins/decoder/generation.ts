import { cast, clone, concat, fromArray, indexSelect, nn, RuntimeError, Scope, slice, withoutRecording, zeros, type Precision, type Tensor } from "../../runtime/index.ts";
import { lastKeys } from "./window.ts";

/** What generation carries from token to token. Its tensors belong to it until `release`. */
export interface Generation {
  /** One per layer: keys and values of every position so far, and room for more. */
  caches: nn.KeyValueCache[];
  /** Positions so far: tokens and places without one. */
  length: number;
  /** Weights that another component lent, copied: they may change while it goes on. */
  readonly borrowed: Record<string, Tensor>;
  /** What its states are stored in. */
  readonly precision: Precision;
  /** u8 (B, C): which places of the caches hold a real key. */
  keyMask: Tensor;
  /** f32 (B, 1): how many of them are real. */
  real: Tensor;
  /** (B, D) after the final norm, of each row's last real token; none before the first token. */
  hidden?: Tensor;
}

/** Runs `work` without a tape, frees everything it made except what it returns; that belongs to the caller. */
export function keepOnly<T extends Record<string, Tensor>>(work: () => T): T {
  const scope = new Scope("decoder step");
  try {
    const kept = scope.enter(() => withoutRecording(work));
    for (const tensor of Object.values(kept)) scope.keep(tensor);
    return kept;
  } finally {
    scope.close();
  }
}

/** Room for `positions` and some to come: caches keep their shape for this many tokens, and a compiled step is replayed as long. */
export const capacityFor = (positions: number): number => Math.ceil((positions + 1) / block) * block;
const block = 64;

/** Makes room for `more` positions where there is none. With a window it first forgets what no later token sees, so that caches stay as large as the window. */
export function makeRoom(state: Generation, more: number, window?: number): void {
  if (window !== undefined && state.length + more > state.keyMask.shape[1] && state.length > remembered(window)) forget(state, window);
  const [batch, capacity] = state.keyMask.shape, positions = state.length + more;
  if (positions <= capacity) return;
  const larger = capacityFor(positions);
  const { keyMask } = keepOnly(() => {
    state.caches.forEach((cache, i) => { state.caches[i] = nn.growCache(cache, larger); }); // one by one: a failure leaves none behind
    return { keyMask: concat([state.keyMask, zeros([batch, larger - capacity], "u8")], 1) };
  });
  state.keyMask.dispose();
  state.keyMask = keyMask;
}

/** How many keys before it a token sees; one at least, so that a cache is never empty. */
const remembered = (window: number): number => Math.max(1, window - 1);

/** What is kept of `length` positions, and in how much room: with some to spare, so that keys are moved once in many tokens. */
export function keptOf(length: number, window: number): { keep: number; capacity: number } {
  const keep = Math.min(length, remembered(window));
  return { keep, capacity: capacityFor(keep) + block };
}

/** Keeps of every row the last real keys that a window reaches, side by side at the end of the places. */
export function forget(state: Generation, window: number): void {
  const [batch, before] = state.keyMask.shape, { keep, capacity } = keptOf(state.length, window);
  const { keyMask } = keepOnly(() => {
    const { from, mask } = lastKeys(slice(state.keyMask, 1, 0, state.length), keep, before);
    state.caches.forEach((cache, i) => { state.caches[i] = nn.pickCache(cache, from, keep, capacity); });
    return { keyMask: concat([mask, zeros([batch, capacity - keep], "u8")], 1) };
  });
  state.keyMask.dispose();
  Object.assign(state, { keyMask, length: keep });
}

/** The caches' tensors by name, for a compiled step. */
export const cacheTensors = (caches: readonly nn.KeyValueCache[]): Record<string, Tensor> =>
  Object.fromEntries(caches.flatMap(({ k, v }, layer) => [[`k${layer}`, k!], [`v${layer}`, v!]]));

/** A generation whose row i stands where row `rows[i]` of another stands. That one stays as it is. */
export function branchOf(state: Generation, rows: readonly number[]): Generation {
  const [batch] = state.keyMask.shape;
  if (rows.length === 0 || rows.some((row) => !Number.isInteger(row) || row < 0 || row >= batch)) {
    throw new RuntimeError("ERR_INPUT", `decoder/llama branch: expected rows from 0 to ${batch - 1}, got ${rows.length === 0 ? "none" : rows.join(", ")}. `
      + "Name for each new row the row it goes on from.", { batch, rows: [...rows] });
  }
  const kept = keepOnly(() => {
    const index = fromArray(Int32Array.from(rows), [rows.length]);
    const { real, hidden, keyMask, caches, borrowed } = state;
    const floats: Record<string, Tensor> = { real, ...(hidden && { hidden }), ...cacheTensors(caches) };
    const picked = Object.fromEntries(Object.entries(floats).map(([name, tensor]) => [name, indexSelect(tensor, 0, index)]));
    const copies = Object.fromEntries(Object.entries(borrowed).map(([name, tensor]) => [`borrowed ${name}`, clone(tensor)]));
    return { ...picked, ...copies, keyMask: cast(indexSelect(cast(keyMask, "f32"), 0, index), "u8") } as Record<string, Tensor>;
  });
  const caches = state.caches.map(({ capacity }, layer) => ({ capacity, k: kept[`k${layer}`], v: kept[`v${layer}`] }));
  const borrowed = Object.fromEntries(Object.keys(state.borrowed).map((name) => [name, kept[`borrowed ${name}`]]));
  return { ...state, caches, borrowed, real: kept.real, hidden: kept.hidden, keyMask: kept.keyMask };
}

/** Flat positions b * A + a of each row's last real token; the last position of a row without any. */
export function lastReal(real: readonly boolean[], batch: number): Int32Array {
  const length = real.length / batch;
  return Int32Array.from({ length: batch }, (_, row) => {
    for (let a = length - 1; a >= 0; a--) if (real[row * length + a]) return row * length + a;
    return row * length + length - 1;
  });
}

/** ids (B, A), real (B * A) -> the same tokens with those of each row first. */
export function tokensFirst(ids: Int32Array, real: readonly boolean[], batch: number): { ids: Int32Array; real: boolean[] } {
  const length = ids.length / batch;
  const order = Array.from({ length: batch }, (_, row) => Array.from({ length }, (_, a) => row * length + a).sort((a, b) => Number(real[b]) - Number(real[a]) || a - b)).flat();
  return { ids: Int32Array.from(order, (i) => ids[i]), real: order.map((i) => real[i]) };
}

/** Frees everything a generation holds. Twice is allowed. */
export function release({ caches, borrowed, keyMask, real, hidden }: Pick<Generation, "caches" | "borrowed"> & Partial<Generation>): void {
  for (const cache of caches) nn.releaseCache(cache);
  for (const tensor of [...Object.values(borrowed), keyMask, real, hidden]) tensor?.dispose();
}

/** ids (B, A) must fill whole rows. */
export function tokensPerRow(ids: Int32Array, batch: number): number {
  const length = ids.length / batch;
  if (!Number.isInteger(length) || length < 1) {
    throw new RuntimeError("ERR_SHAPE", `decoder/llama next: expected ids for ${batch} rows, got ${ids.length} ids. `
      + "Give every row the same number of ids, the pad id where a row has none.", { batch, ids: ids.length });
  }
  return length;
}

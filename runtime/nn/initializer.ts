import { fnv1a32 } from "../tensor/index.ts";
import { normalCdf, normalQuantile, philoxBlock, split64 } from "../tensor/philox.ts";

/** How a parameter starts. `divide` divides the random ones afterwards: depth rescaling keeps the bound of the truncation. */
export type Initializer =
  | { kind: "zeros" }
  | { kind: "ones" }
  | { kind: "constant"; value: number }
  | { kind: "normal"; std: number; divide?: number }
  /** `bound` is absolute and defaults to one standard deviation. */
  | { kind: "truncated-normal"; std: number; bound?: number; divide?: number }
  /** In [-bound, bound). */
  | { kind: "uniform"; bound: number; divide?: number }
  | { kind: "data"; data: () => Float32Array | Float64Array };

/** The upper counter word of initial values: keeps their random streams apart from those of masks and dropout. */
const initStream = 0x696e6974; // "init"

/**
 * The starting values of a parameter. Element e uses word e mod 4 of Philox block e / 4, key = seed, stream = (FNV-1a of
 * the global name, "init"): one draw per element, so a shard of the tensor could be made alone.
 */
export function initialValues(init: Initializer, size: number, seed: number, name: string): ArrayLike<number> {
  switch (init.kind) {
    case "zeros":
      return new Float64Array(size);
    case "ones":
      return new Float64Array(size).fill(1);
    case "constant":
      return new Float64Array(size).fill(init.value);
    case "data":
      return init.data();
    case "normal":
      return random(size, seed, name, (u) => (init.std * normalQuantile(u)) / (init.divide ?? 1));
    case "uniform":
      return random(size, seed, name, (u) => (init.bound * (2 * u - 1)) / (init.divide ?? 1));
    case "truncated-normal": {
      const below = normalCdf(-(init.bound ?? init.std) / init.std);
      return random(size, seed, name, (u) => (init.std * normalQuantile(below + u * (1 - 2 * below))) / (init.divide ?? 1));
    }
  }
}

/** `shape(u)` of one u in (0, 1) per element. */
function random(size: number, seed: number, name: string, shape: (u: number) => number): Float64Array {
  const values = new Float64Array(size);
  const words = new Uint32Array(4);
  const key = split64(seed);
  const stream = fnv1a32(name);
  for (let e = 0; e < size; e += 4) {
    philoxBlock(key, e / 4, 0, stream, initStream, words);
    for (let i = 0; i < 4 && e + i < size; i++) values[e + i] = shape((words[i] + 0.5) / 2 ** 32);
  }
  return values;
}

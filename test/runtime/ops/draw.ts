/** What the properties of ops draw from: sizes that hurt, and numbers of a kind. One drawing is the operands of one call, as plain data. */
import fc from "fast-check";
import { Philox, type Shape, type Tensor, sizeOf } from "../../../runtime/tensor/index.ts";

/** Kinds of numbers: standard normal; positive and away from 0; either sign and away from 0; a few whole numbers, so that equals occur. */
export type Kind = "normal" | "positive" | "far" | "whole";
export interface Drawn { shape: Shape; data: Float64Array | Int32Array | Uint8Array }

/** One call of an op. */
export interface Call {
  operands: Record<string, Drawn>;
  call: (operands: Record<string, Tensor>) => Tensor | readonly Tensor[];
  /** Options, for the message. */
  options?: unknown;
}

// Vectors are 4, 8 and 16 numbers wide, tiles 32768 and 131072 elements, blocks of the products 64 to 384.
const primes = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67];
const borders = [8, 15, 16, 32, 33, 63, 64, 65];
const long = [127, 128, 129, 1021, 32767, 32769, 131071, 131073];
const anySize = fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1, max: 5 }) }, { weight: 1, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.constant(1) },
  { weight: 4, arbitrary: fc.constantFrom(...primes) }, { weight: 2, arbitrary: fc.constantFrom(...borders) });
const longSize = fc.oneof({ weight: 6, arbitrary: anySize }, { weight: 1, arbitrary: fc.constantFrom(...long) });
const smallSize = fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 9, arbitrary: fc.integer({ min: 1, max: 4 }) });

type Gen = fc.GeneratorValue;
const choice = <T>(...choices: T[]): fc.Arbitrary<T> => fc.constantFrom(...choices);
const sizeOfKind = (kind: "any" | "small" | "long"): fc.Arbitrary<number> => ({ any: anySize, small: smallSize, long: longSize })[kind];

export class Draw {
  /** `small`: for central differences, which look at every element. */
  constructor(private readonly gen: Gen, readonly small = false) {}

  whole(min: number, max: number): number {
    return this.gen(fc.integer, { min, max });
  }

  pick<T>(...choices: readonly T[]): T {
    return this.gen(choice<T>, ...choices);
  }

  /** A size from `least` on; zero now and then where it may be. */
  size(least: 0 | 1 = 0): number {
    return Math.max(least, this.gen(sizeOfKind, this.small ? "small" : "any"));
  }

  /** The elements of a vector, sometimes as many as a tile has, one less or one more. */
  length(least: 0 | 1 = 0): number {
    return this.small ? this.size(least) : Math.max(least, this.gen(sizeOfKind, "long"));
  }

  /** `rank` sizes of at most 20 000 elements together (40 when small). */
  shape(minRank = 0, maxRank = 6, least: 0 | 1 = 0): number[] {
    const rank = this.whole(minRank, maxRank);
    if (rank === 1) return [this.length(least)];
    const most = this.small ? 40 : 20_000;
    const shape = Array.from({ length: rank }, () => this.size(least));
    for (let i = 0; i < rank && sizeOf(shape) > most; i++) shape[i] = Math.min(shape[i], 3);
    for (let i = 0; i < rank && sizeOf(shape) > most; i++) shape[i] = Math.min(shape[i], 1);
    return shape;
  }

  /** Two shapes that broadcast with each other. */
  broadcasting(): [number[], number[]] {
    const whole = this.shape();
    const part = (): number[] => {
      const kept = whole.slice(this.whole(0, 1) ? this.whole(0, whole.length) : 0);
      return kept.map((size) => (this.whole(0, 3) === 0 ? 1 : size));
    };
    return this.whole(0, 2) === 0 ? [whole, [...whole]] : [part(), part()];
  }

  floats(shape: Shape, kind: Kind = "normal", scale = 1): Drawn {
    const random = new Philox(this.whole(0, 2 ** 31 - 1), 0x7072); // "pr"
    const draw = { normal: () => random.normal(), positive: () => random.uniform(0.5, 3), far: () => (random.u32() % 2 ? -1 : 1) * random.uniform(0.3, 2), whole: () => random.randint(-2, 2) }[kind];
    // What bf16 and f32 can both hold, so that every dtype computes with the same numbers: 8 bits of mantissa.
    return { shape, data: Float64Array.from({ length: sizeOf(shape) }, () => roundedTo8Bits(scale * draw())) };
  }

  /** Whole numbers in [low, high]. */
  ids(shape: Shape, low: number, high: number): Drawn {
    const random = new Philox(this.whole(0, 2 ** 31 - 1), 0x6964); // "id"
    return { shape, data: Int32Array.from({ length: sizeOf(shape) }, () => random.randint(low, high)) };
  }

  /** Labels of `classes`, one in five not counted. */
  labels(shape: Shape, classes: number): Drawn {
    const { data } = this.ids(shape, 0, 5 * classes - 1);
    return { shape, data: Int32Array.from(data as Int32Array, (n) => (n % 5 === 0 ? -100 : Math.floor(n / 5))) };
  }

  mask(shape: Shape): Drawn {
    const random = new Philox(this.whole(0, 2 ** 31 - 1), 0x6d61); // "ma"
    return { shape, data: Uint8Array.from({ length: sizeOf(shape) }, () => (random.u32() % 4 === 0 ? 0 : 1)) };
  }
}

function roundedTo8Bits(x: number): number {
  if (x === 0) return 0;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(x))) - 7);
  return Math.round(x / unit) * unit;
}

export const show = ({ operands, options }: Call): string =>
  `${Object.entries(operands).map(([name, { shape, data }]) => `${name} ${data instanceof Float64Array ? "" : data instanceof Int32Array ? "i32 " : "u8 "}(${shape.join(", ")})`).join(", ")}`
  + (options === undefined ? "" : ` ${JSON.stringify(options)}`);

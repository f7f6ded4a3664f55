/**
 * Philox4x32-10, the counter-based generator behind every random number of a run. Source: Salmon et al., SC 2011.
 *
 * The key is the 64-bit seed; the counter words are (block_lo, block_hi, stream_lo, stream_hi); the four outputs of
 * a block are used in order. A value depends on (seed, stream, position) alone, never on who asked before.
 */
export class Philox {
  readonly #key: readonly [number, number];
  readonly #stream: readonly [number, number];
  readonly #words = new Uint32Array(4);
  #block = 0;
  #next = 4;

  constructor(seed: bigint | number, stream: bigint | number) {
    this.#key = split64(seed);
    this.#stream = split64(stream);
  }

  /** The next 32 bits. */
  u32(): number {
    if (this.#next === 4) {
      philoxBlock(this.#key, this.#block % 2 ** 32, Math.floor(this.#block / 2 ** 32), this.#stream[0], this.#stream[1], this.#words);
      this.#block++;
      this.#next = 0;
    }
    return this.#words[this.#next++];
  }

  /** In [a, b), in steps of 2^-32. */
  uniform(a = 0, b = 1): number {
    return a + (b - a) * (this.u32() / 2 ** 32);
  }

  /** A whole number in [a, b], both included. */
  randint(a: number, b: number): number {
    return a + Math.floor((this.u32() / 2 ** 32) * (b - a + 1));
  }

  /** Knuth's product method. */
  poisson(lambda: number): number {
    const limit = Math.exp(-lambda);
    let k = 0;
    let product = 1;
    do {
      k++;
      product *= this.uniform();
    } while (product > limit);
    return k - 1;
  }

  /** Standard normal by the inverse distribution function: one draw per value. */
  normal(): number {
    return normalQuantile((this.u32() + 0.5) / 2 ** 32);
  }

  /** `count` different elements: the first steps of Fisher and Yates over a copy. */
  sample<T>(items: readonly T[], count: number): T[] {
    const pool = items.slice();
    for (let i = 0; i < count; i++) {
      const j = this.randint(i, pool.length - 1);
      [pool[i], pool[j]] = [pool[j], pool[i]];
    }
    return pool.slice(0, count);
  }

  /** All elements in a random order. */
  shuffle<T>(items: readonly T[]): T[] {
    return this.sample(items, items.length);
  }
}

/** One block of ten rounds into `out`. All words are unsigned 32-bit numbers. */
export function philoxBlock(key: readonly [number, number], c0: number, c1: number, c2: number, c3: number, out: Uint32Array): void {
  let k0 = key[0], k1 = key[1];
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const high1 = mulHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Bits 32 to 63 of a 32 by 32 bit product, by halves: every partial product is exact in a double. */
function mulHigh(a: number, b: number): number {
  const aHigh = a >>> 16, aLow = a & 0xffff;
  const bHigh = b >>> 16, bLow = b & 0xffff;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor((aLow * bHigh + (middle % 65536)) / 65536)) >>> 0;
}

export function split64(value: bigint | number): readonly [number, number] {
  const bits = BigInt.asUintN(64, BigInt(value));
  return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
}

/** FNV-1a, 32 bits, over the UTF-8 bytes: the number a name stands for in a random stream. */
export function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** Inverse of the standard normal distribution function, about 16 digits. Source: Wichura 1988, AS 241 (PPND16). */
export function normalQuantile(p: number): number {
  const q = p - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return q * ratio(r, centre);
  }
  const r = Math.sqrt(-Math.log(q < 0 ? p : 1 - p));
  const magnitude = r <= 5 ? ratio(r - 1.6, shoulder) : ratio(r - 5, tail);
  return q < 0 ? -magnitude : magnitude;
}

/** Distribution function of the standard normal, to about 1e-15. Series of Abramowitz and Stegun 26.2.11, for |x| of a few units. */
export function normalCdf(x: number): number {
  if (x > 8) return 1;
  if (x < -8) return 0;
  let term = x;
  let sum = x;
  for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) sum += term *= (x * x) / n;
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}

type Rational = readonly [numerator: readonly number[], denominator: readonly number[]];

function ratio(x: number, [numerator, denominator]: Rational): number {
  return horner(x, numerator) / horner(x, denominator);
}

function horner(x: number, coefficients: readonly number[]): number {
  let sum = 0;
  for (let i = coefficients.length - 1; i >= 0; i--) sum = sum * x + coefficients[i];
  return sum;
}

const centre: Rational = [
  [3.387132872796366608, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
    45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727],
  [1, 42.313330701600911252, 687.1870074920579083, 5394.1960214247511077,
    21213.794301586595867, 39307.89580009271061, 28729.085735721942674, 5226.495278852545925],
];
const shoulder: Rational = [
  [1.42343711074968357734, 4.6303378461565452959, 5.7694972214606914055, 3.64784832476320460504,
    1.27045825245236838258, 0.24178072517745061177, 0.0227238449892691845833, 7.7454501427834140764e-4],
  [1, 2.05319162663775882187, 1.6763848301838038494, 0.68976733498510000455,
    0.14810397642748007459, 0.0151986665636164571966, 5.475938084995344946e-4, 1.05075007164441684324e-9],
];
const tail: Rational = [
  [6.6579046435011037772, 5.4637849111641143699, 1.7848265399172913358, 0.29656057182850489123,
    0.026532189526576123093, 0.0012426609473880784386, 2.71155556874348757815e-5, 2.01033439929228813265e-7],
  [1, 0.59983220655588793769, 0.13692988092273580531, 0.0148753612908506148525,
    7.868691311456132591e-4, 1.8463183175100546818e-5, 1.4215117583164458887e-7, 2.04426310338993978564e-15],
];

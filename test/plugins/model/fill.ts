/**
 * The deterministic fill that the golden numbers of the model were computed with: weights that any framework can
 * reproduce from a name alone, without a random generator.
 *   u(name, k): h = (k + 1) * 0x9E3779B1 + fnv1a32(name) mod 2^32, three xor-shift-multiply rounds, h / 2^31 - 1
 *   fill(name, shape, scale, offset): element k (row-major) = offset + scale * u(name, k)
 */

export function fnv1a32(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

export function unit(hash: number, k: number): number {
  let h = (Math.imul(k + 1, 0x9e3779b1) + hash) >>> 0;
  h ^= h >>> 16;
  h = Math.imul(h, 0x7feb352d) >>> 0;
  h ^= h >>> 15;
  h = Math.imul(h, 0x846ca68b) >>> 0;
  h = (h ^ (h >>> 16)) >>> 0;
  return h / 2 ** 31 - 1;
}

export function fill(name: string, shape: readonly number[], scale = 1, offset = 0): Float64Array {
  const hash = fnv1a32(name);
  const size = shape.reduce((product, dim) => product * dim, 1);
  return Float64Array.from({ length: size }, (_, k) => offset + scale * unit(hash, k));
}

/** Weights by name: norm weights near one, layer scales near 0.1, biases small, everything else of scale 0.2. */
export function fillWeight(name: string, shape: readonly number[]): Float64Array {
  const isNorm = /norm|LayerNorm|ln_/.test(name) || name.split(".").includes("ln");
  if (isNorm && name.endsWith("weight")) return fill(name, shape, 0.1, 1);
  if (/(^|\.)gamma_\d$/.test(name)) return fill(name, shape, 0.02, 0.1);
  if (name.endsWith("bias")) return fill(name, shape, 0.1);
  return fill(name, shape, 0.2);
}

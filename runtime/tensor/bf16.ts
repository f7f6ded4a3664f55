/**
 * bf16 on the host: the upper half of an f32. Numbers become bf16 by way of f32, rounded to nearest, ties to even; NaN stays NaN.
 */

const word = new DataView(new ArrayBuffer(4));

/** The raw bits of numbers. */
export function toBf16(numbers: ArrayLike<number>): Uint16Array {
  const bits = new Uint16Array(numbers.length);
  for (let i = 0; i < bits.length; i++) {
    word.setFloat32(0, numbers[i]);
    const f32 = word.getUint32(0);
    bits[i] = Number.isNaN(numbers[i]) ? (f32 >>> 16) | 0x40 : (f32 + 0x7fff + ((f32 >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** The numbers of raw bits; exact. */
export function fromBf16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer);
}

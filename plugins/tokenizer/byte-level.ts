/**
 * Byte-level text: any string is a sequence of bytes, each byte written as one printable character, so that a
 * vocabulary of 256 characters covers everything and decoding gives back exactly what was encoded.
 * Source: Radford et al. 2019 (GPT-2); the same table and splitting as Hugging Face's ByteLevel.
 */

/** What belongs together before pairs are merged: a word with the space before it, digits, punctuation, spaces. */
export const pieces = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Byte -> character: printable Latin-1 stands for itself, the others move above 255 in order. */
export const byteCharacters: readonly string[] = (() => {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let moved = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 256 + moved++));
})();

/** The 256 characters in the order that gives them ids: printable bytes first, as Hugging Face does. */
export const byteAlphabet: readonly string[] = [...byteCharacters].sort((a, b) => (a < b ? -1 : 1));

/** One piece of text as byte characters. */
export function toByteCharacters(piece: string): string[] {
  return Array.from(new TextEncoder().encode(piece), (byte) => byteCharacters[byte]);
}

/** The ids that every tokenizer of this project reserves: 0..15 specials, then one token per location bin, then text. */
import { specialTokens, type SpecialToken } from "../../runtime/index.ts";

/** How the specials are written; their place is their id. Ids 12 to 15 are kept free. */
const names: Record<SpecialToken, string> = {
  pad: "<pad>", bos: "<bos>", eos: "<eos>", unk: "<unk>", mask: "<mask>", sep: "<sep>", ans: "<ans>",
  box: "<box>", boxEnd: "</box>", none: "<none>", item: "<item>", kv: "<kv>",
};

export const locationBase = 16;

/** Id -> written form of all reserved tokens. */
export function reservedTokens(locationBins: number): string[] {
  const specials = specialTokens.map((token) => names[token]);
  const free = Array.from({ length: locationBase - specials.length }, (_, i) => `<reserved_${specials.length + i}>`);
  return [...specials, ...free, ...Array.from({ length: locationBins }, (_, bin) => `<loc_${bin}>`)];
}

export const specialIds = Object.fromEntries(specialTokens.map((token, id) => [token, id])) as Record<SpecialToken, number>;

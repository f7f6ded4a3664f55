import { RuntimeError } from "../../runtime/index.ts";

/**
 * The factor that turns a microbatch's sum into its share of the whole batch's mean: weight / count, and 0 where nothing is
 * counted, so that an empty batch contributes nothing and never NaN. Throws ERR_DATA when the loader does not give the count.
 */
export function meanWeight(counts: Record<string, number>, name: string, weight = 1): number {
  const count = counts[name];
  if (count === undefined || !Number.isFinite(count) || count < 0) {
    throw new RuntimeError("ERR_DATA", `objective: expected the batch to count "${name}", got ${count} (counts: ${Object.keys(counts).join(", ") || "none"}). `
      + "A data loader declares its counts and gives them with every batch.", { name, counts });
  }
  return count === 0 ? 0 : weight / count;
}

import { gatherRows, reshape, RuntimeError, type Tensor } from "../../runtime/index.ts";

export interface Labels { labels?: Tensor; index?: Tensor; targets?: Tensor }

/**
 * The rows whose labels count, and their labels. With an index only those rows go through the head, which saves most of the
 * vocabulary products; without one all rows do, and the loss skips those labelled -100.
 * states (B, N, D), index (K) of flat positions b * N + n, targets (K) -> rows (K, D), targets (K); or labels (B, N) -> (B * N, D), (B * N).
 */
export function labelledRows(objective: string, states: Tensor, { labels, index, targets }: Labels, ports: readonly string[]): { rows: Tensor; targets: Tensor } {
  const [batch, length, width] = states.shape;
  const flat = reshape(states, [batch * length, width]);
  if (index && targets) return { rows: gatherRows(flat, index), targets };
  if (labels && !index && !targets) return { rows: flat, targets: reshape(labels, [batch * length]) };
  const [dense, indexPort, targetsPort] = ports;
  throw new RuntimeError("ERR_RECIPE", `${objective}: expected ${indexPort} and ${targetsPort} together, or ${dense} alone, to be connected; `
    + `found ${Object.entries({ [dense]: labels, [indexPort]: index, [targetsPort]: targets }).filter(([, t]) => t).map(([n]) => n).join(", ") || "none of them"}. `
    + "Connect them in the recipe's `in:` of this component.", { objective, ports: [...ports] });
}

/** What a language model's head reads: the state before a token, which is where a causal model says what comes next. */
import { port, reshape, slice, type Port, type Tensor } from "../../runtime/index.ts";
import { labelledRows, type Labels } from "./labelled-rows.ts";

/** Ports of `states` and of the table (V, D) whose rows turn them into logits: the encoder's `embedding`, or its own `head`. */
export const headPorts = ({ vocabulary, width }: { vocabulary: number; width: number }): Record<string, Port> =>
  ({ states: port(["B", "T", width]), head: port([vocabulary, width]) });

/** states (B, T, D), labels i32 (B, T), -100 = not asked -> the states before each token (B * (T-1), D) and what it is. Position 0 has none before it. */
export function beforeEach(states: Tensor, labels: Tensor): { rows: Tensor; targets: Tensor } {
  const [batch, length, width] = states.shape, count = length - 1;
  return { rows: reshape(slice(states, 1, 0, count), [batch * count, width]), targets: reshape(slice(labels, 1, 1, count), [batch * count]) };
}

/** Either labels of all tokens, or index i32 (K), the flat positions b * T + t before those asked, and what they are. */
export function askedBefore(objective: string, states: Tensor, asked: Labels, ports: readonly string[]): { rows: Tensor; targets: Tensor } {
  const { labels, index, targets } = asked;
  return labels && !index && !targets ? beforeEach(states, labels) : labelledRows(objective, states, asked, ports);
}

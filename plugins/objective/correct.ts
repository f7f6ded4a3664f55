import { nn } from "../../runtime/index.ts";

/**
 * How many rows rank their target first, times `share`: with one over the batch's count, a microbatch's part of the batch's accuracy.
 * logits (K, C), targets i32 (K) -> (1). A target of -100 is never ranked first. Nothing is recorded for the way back.
 */
export const { correct } = nn.vocabularyHead();

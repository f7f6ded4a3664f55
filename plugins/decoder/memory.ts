/**
 * What the decoder is told of the page, as a soft prefix: memory (B, M, Dm) [+ prompt (B, Dm), the same for every position] -> (B, L, D).
 * All of it (L = M), or what `max_prefix` learned queries find in it by one look with eight heads (L = max_prefix): Lee et al. 2019 (set transformers).
 */
import { add, attention, expandTo, full, nn, reshape, toPrecision, type Precision, type Tensor } from "../../runtime/index.ts";

export const queryHeads = 8;

export interface MemoryPrefix extends nn.Module {
  /** -> the prefix, and which of its places are real, u8 (B, L). */
  forward(inputs: Record<string, Tensor>, precision: Precision): { prefix: Tensor; mask: Tensor };
}

export function memoryPrefix({ memoryWidth, width, maxPrefix, std }: { memoryWidth: number; width: number; maxPrefix?: number; std: number }): MemoryPrefix {
  // Prefix vectors start at the scale of token embeddings: std = rms(table) / sqrt(width of the memory).
  const projection = nn.linear({ in: memoryWidth, out: width, init: nn.normal(std / Math.sqrt(memoryWidth)) });
  const queries = maxPrefix === undefined ? undefined : new nn.Parameter([maxPrefix, memoryWidth], nn.normal(), { decay: false });
  return {
    parameters: () => nn.collect({ memory_proj: projection, "memory.queries": queries }),
    forward({ memory, memory_mask, prompt }, precision) {
      const [batch] = memory.shape;
      const asked = prompt ? add(memory, reshape(prompt, [batch, 1, memoryWidth])) : memory;
      if (!queries) return { prefix: projection.forward(asked), mask: memory_mask };
      const q = expandTo(toPrecision(reshape(queries.value, [1, ...queries.shape]), precision), [batch, ...queries.shape]);
      const found = attention({ q, k: asked, v: asked, keyMask: memory_mask, heads: queryHeads });
      return { prefix: projection.forward(found), mask: full([batch, maxPrefix!], 1, "u8") };
    },
  };
}

/** The fused memory is [image CLS, image patches row by row, text tokens]; objectives read one part of it. */
import { slice, type Tensor } from "../../runtime/index.ts";

/** memory (B, 1 + P + T, D) -> text (B, T, D), P = grid * grid. */
export function textStates(memory: Tensor, grid: number): Tensor {
  const start = 1 + grid * grid;
  return slice(memory, 1, start, memory.shape[1] - start);
}

/**
 * Points of the page as tokens. Source: Kirillov et al. 2023 (SAM), after Tancik et al. 2020.
 *   c = 2 pi (2 (x, y) - 1) G, encoding = [sin c, cos c] + kind;   G (2, D/2) drawn once from a standard normal and never trained
 * A point of kind 4 is "not a point": it has no place, only its kind.
 */
import {
  add, cast, concat, cos, eq, fromArray, full, gatherRows, gt, matmul, mul, nn, reshape, RuntimeError, scale, sin, sub, sumTo, zeros, type Tensor,
} from "../../runtime/index.ts";

export interface PointEncoding extends nn.Module {
  /** points (B, G, 2) in [0, 1], kinds i32 (B, G) -> (B, G, D). */
  forward(points: Tensor, kinds: Tensor): Tensor;
}

export function pointEncoding(width: number): PointEncoding {
  const gaussian = new nn.Parameter([2, width / 2], { kind: "normal", std: 1 }, { trainable: false, decay: false });
  const kindVectors = new nn.Parameter([4, width], nn.normal());
  const notAPoint = new nn.Parameter([1, width], nn.normal());

  function placeOf(points: Tensor): Tensor {
    const [batch, count] = points.shape;
    const one = fromArray([1], [1], points.dtype);
    const centred = scale(sub(scale(points, 2), one), 2 * Math.PI);
    const angles = matmul(reshape(centred, [batch * count, 2]), gaussian.value);
    return reshape(concat([sin(angles), cos(angles)], 1), [batch, count, width]);
  }

  return {
    parameters: () => nn.collect({ point_embeddings: kindVectors, not_a_point: notAPoint, pe_gaussian: gaussian }),
    forward(points, kinds) {
      const hasPlace = gatherRows(fromArray([1, 1, 1, 1, 0], [5, 1], points.dtype), kinds);
      const kind = gatherRows(concat([kindVectors.value, notAPoint.value], 0), kinds);
      return add(mul(placeOf(points), hasPlace), kind);
    },
  };
}

/** Half a pixel of a page of 1024: SAM means the middle of a pixel. */
const halfPixel = 0.5 / 1024;

export interface PointTokens { points: Tensor; kinds: Tensor; mask: Tensor }

/** Points, then the corners of boxes, then SAM's padding point where it is asked for; undefined without either. Coordinates in [0, 1]. */
export function pointTokens(
  { prompt_points, prompt_kinds, prompt_points_mask, prompt_boxes, prompt_boxes_mask }: Record<string, Tensor | undefined>, { samPad }: { samPad: boolean },
): PointTokens | undefined {
  together("prompt_points, prompt_kinds and prompt_points_mask", [prompt_points, prompt_kinds, prompt_points_mask]);
  together("prompt_boxes and prompt_boxes_mask", [prompt_boxes, prompt_boxes_mask]);
  const parts: PointTokens[] = [];
  if (prompt_points) parts.push({ points: shifted(prompt_points), kinds: prompt_kinds!, mask: prompt_points_mask! });
  if (prompt_boxes) parts.push(cornersOf(prompt_boxes, prompt_boxes_mask!));
  if (samPad && prompt_points) parts.push(paddingPoint(prompt_points, prompt_points_mask!, prompt_boxes_mask));
  if (parts.length <= 1) return parts[0];
  return { points: concat(parts.map((part) => part.points), 1), kinds: concat(parts.map((part) => part.kinds), 1), mask: concat(parts.map((part) => part.mask), 1) };
}

const shifted = (points: Tensor): Tensor => add(points, fromArray([halfPixel], [1], points.dtype));

/** boxes (B, R, 4) -> their top left and bottom right corners, kinds 2 and 3, (B, 2R, 2). */
function cornersOf(boxes: Tensor, mask: Tensor): PointTokens {
  const [batch, count] = boxes.shape;
  const kinds = fromArray(Int32Array.from({ length: batch * count * 2 }, (_, i) => 2 + (i % 2)), [batch, 2 * count]);
  const both = reshape(mask, [batch, count, 1]);
  return { points: shifted(reshape(boxes, [batch, 2 * count, 2])), kinds, mask: reshape(concat([both, both], 2), [batch, 2 * count]) };
}

/** One token without a place for every page that has a point and no box. */
function paddingPoint(points: Tensor, mask: Tensor, boxes: Tensor | undefined): PointTokens {
  const [batch] = points.shape, zero = full([1], 0, "f32");
  const count = (flags: Tensor): Tensor => sumTo(cast(flags, "f32"), [batch, 1]);
  const some = cast(gt(count(mask), zero), "f32"), alone = boxes ? mul(some, cast(eq(count(boxes), zero), "f32")) : some;
  return { points: zeros([batch, 1, 2], points.dtype), kinds: fromArray(new Int32Array(batch).fill(4), [batch, 1]), mask: cast(alone, "u8") };
}

function together(what: string, ports: readonly (Tensor | undefined)[]): void {
  if (ports.every(Boolean) || !ports.some(Boolean)) return;
  throw new RuntimeError("ERR_RECIPE", `prompt-encoder/bert: expected ${what} together or none of them. Connect all of them in the recipe's \`in:\` of this component.`);
}

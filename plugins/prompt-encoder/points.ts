/**
 * Points of the page as tokens. Source: Kirillov et al. 2023 (SAM), after Tancik et al. 2020.
 *   c = 2 pi (2 (x, y) - 1) G, encoding = [sin c, cos c] + kind;   G (2, D/2) drawn once from a standard normal and never trained
 * A point of kind 4 is "not a point": it has no place, only its kind.
 */
import { add, concat, cos, fromArray, gatherRows, matmul, mul, nn, reshape, scale, sin, sub, type Tensor } from "../../runtime/index.ts";

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

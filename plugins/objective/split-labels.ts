import { add, cast, full, mul, relu, scale, sub, type Tensor } from "../../runtime/index.ts";

const ignored = -100;

/**
 * Labels i32 (N) -> the same labels twice, once without and once with only the location tokens [from, to); the others become -100.
 * Arithmetic in f32 on the device, where the labels are: ids are integers below 2^24, hence exact.
 */
export function splitByKind(labels: Tensor, { from, to }: { from: number; to: number }): { text: Tensor; location: Tensor } {
  const ids = cast(labels, "f32");
  const constant = (value: number) => full([1], value, "f32");
  // 0 below `threshold`, 1 from it on: an integer's distance to threshold - 1, cut to [0, 1]
  const atLeast = (threshold: number) => {
    const distance = sub(ids, constant(threshold - 1));
    return sub(relu(distance), relu(sub(distance, constant(1))));
  };
  const isLocation = sub(atLeast(from), atLeast(to));
  const isText = sub(constant(1), isLocation);
  const keep = (kept: Tensor, dropped: Tensor) => cast(add(mul(ids, kept), scale(dropped, ignored)), "i32");
  return { text: keep(isText, isLocation), location: keep(isLocation, isText) };
}

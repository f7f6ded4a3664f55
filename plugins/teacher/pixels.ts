/** Pages arrive normalised for the student; CLIP wants its own mean and deviation. Source: the two models' releases. */
import { z } from "zod";
import { add, clamp, fromArray, mul, type Tensor } from "../../runtime/index.ts";

const student = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };
const teacher = { mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711] };

/** `student`: pixels normalised for the image encoder, converted here. `none`: pixels used as they come. */
export const pixelsOption = z.enum(["student", "none"]).default("student");

/** Student's normalisation -> [0, 1], clamped -> the teacher's normalisation. pixels (B, 3, S, S). */
export function renormalise(pixels: Tensor): Tensor {
  const channels = (values: readonly number[]) => fromArray(values, [1, 3, 1, 1], pixels.dtype);
  const unit = clamp(add(mul(pixels, channels(student.deviation)), channels(student.mean)), 0, 1);
  return add(mul(unit, channels(teacher.deviation.map((d) => 1 / d))), channels(teacher.mean.map((m, c) => -m / teacher.deviation[c])));
}

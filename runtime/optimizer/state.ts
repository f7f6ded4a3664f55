import { RuntimeError } from "../errors.ts";
import type { Parameter } from "../nn/index.ts";

/** One state of a parameter out of a checkpoint. */
export function needState(parameter: Parameter, data: Record<string, ArrayLike<number>>, name: string): ArrayLike<number> {
  const values = data[name];
  if (values === undefined) {
    throw new RuntimeError("ERR_CHECKPOINT", `optimizer state ${name} of ${parameter.name} is missing; found ${Object.keys(data).join(", ") || "none"}.`
      + " The checkpoint was written with another optimizer; start without its state.", { parameter: parameter.name, state: name });
  }
  return values;
}

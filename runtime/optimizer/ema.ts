import type { Parameter } from "../nn/index.ts";
import { type Tensor, clone, kernel, operandsPerCall, owned } from "../tensor/index.ts";
import { RuntimeError } from "../errors.ts";

const emaManyKernel = kernel("ema_many");
const perCall = Math.floor(operandsPerCall / 2);

/** Averages of parameters over the updates of a run. They start as the parameters of the first update. */
export interface Ema {
  /** e = decay e + (1 - decay) p for each of them, after an update. */
  update(parameters: readonly Parameter[]): void;
  /** The average of a parameter; the Ema keeps owning it. Throws ERR_INPUT before the first update. */
  average(parameter: Parameter): Tensor;
  dispose(): void;
}

/** Exponential moving averages; a decay of 0.9999 looks back over some 10000 updates. Source: Polyak and Juditsky 1992. Throws ERR_INPUT unless 0 <= decay <= 1. */
export function ema(decay: number): Ema {
  if (!(decay >= 0 && decay <= 1)) throw new RuntimeError("ERR_INPUT", `ema: decay expected in [0, 1], got ${decay}. 0.9999 is usual.`, { decay });
  const averages = new Map<string, Tensor>();

  return {
    update(parameters) {
      for (const parameter of parameters) {
        if (!averages.has(parameter.name)) averages.set(parameter.name, owned(clone(parameter.value)));
      }
      for (let start = 0; start < parameters.length; start += perCall) {
        const group = parameters.slice(start, start + perCall);
        emaManyKernel(group.flatMap((parameter) => [averages.get(parameter.name)!, parameter.value]), [decay]);
      }
    },
    average(parameter) {
      const average = averages.get(parameter.name);
      if (average === undefined) {
        throw new RuntimeError("ERR_INPUT", `ema: ${parameter.name} has no average yet. Call update with it first.`, { parameter: parameter.name });
      }
      return average;
    },
    dispose() {
      for (const average of averages.values()) average.dispose();
      averages.clear();
    },
  };
}

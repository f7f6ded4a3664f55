import type { Parameter } from "../nn/index.ts";
import { type Tensor, kernel, operandsPerCall, owned, zeros } from "../tensor/index.ts";
import type { Optimizer } from "./adamw.ts";
import { type Moved, inGroups } from "./many.ts";
import { needState } from "./state.ts";

const sgdKernel = kernel("sgd"), sgdManyKernel = kernel("sgd_many");
const perCall = Math.floor((operandsPerCall - 1) / 3);

export interface SgdOptions {
  /** 0.9 by default; 0 is plain gradient descent. */
  momentum?: number;
  weightDecay?: number;
}

/**
 * Gradient descent with momentum: p *= 1 - lr * decay for parameters that decay, m = momentum m + g, p -= lr m.
 * Source: Sutskever et al. 2013, classical momentum.
 */
export function sgd({ momentum = 0.9, weightDecay = 0 }: SgdOptions = {}): Optimizer {
  const momenta = new Map<string, Tensor>();
  const decayOf = (parameter: Parameter): number => (parameter.decay ? weightDecay : 0);
  const momentumOf = (parameter: Parameter): Tensor => {
    let m = momenta.get(parameter.name);
    if (m === undefined) momenta.set(parameter.name, m = owned(zeros(parameter.shape, parameter.value.dtype)));
    return m;
  };

  return {
    stateNames: ["m"],
    step(parameter, gradient, { learningRate, gradScale }) {
      sgdKernel([parameter.value, gradient, momentumOf(parameter)], [learningRate, momentum, decayOf(parameter), gradScale]);
    },
    stepMany(moved, numbers) {
      inGroups(moved, perCall, (group: readonly Moved[]) => sgdManyKernel(
        [...group.flatMap(([parameter, gradient]) => [parameter.value, gradient, momentumOf(parameter)]), numbers],
        [momentum, ...group.map(([parameter]) => decayOf(parameter))],
      ));
    },
    state: (parameter) => ({ m: momentumOf(parameter) }),
    load: (parameter, data) => momentumOf(parameter).write(needState(parameter, data, "m")),
    dispose() {
      for (const m of momenta.values()) m.dispose();
      momenta.clear();
    },
  };
}

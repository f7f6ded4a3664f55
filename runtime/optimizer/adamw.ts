import type { Parameter } from "../nn/index.ts";
import { withoutRecording } from "../autograd/index.ts";
import { mul } from "../ops/index.ts";
import { Scope, type Tensor, fromArray, kernel, operandsPerCall, owned, zeros } from "../tensor/index.ts";
import type { LearningScale } from "./learning-scale.ts";
import { type Moved, inGroups } from "./many.ts";
import { needState } from "./state.ts";

const adamwKernel = kernel("adamw"), adamwManyKernel = kernel("adamw_many");
const perCall = Math.floor((operandsPerCall - 1) / 4);

export interface StepOptions {
  /** Number of this update, counted from 1: bias correction needs it. */
  step: number;
  learningRate: number;
  /** Factor on the gradient: clipping. 1 leaves it alone. */
  gradScale: number;
}

/** The same as a tensor, f64 (3): learningRate, step, gradScale. What is recorded takes them from there, for they change with every step. */
export const updateNumbers = ({ step, learningRate, gradScale }: StepOptions): Tensor => fromArray(Float64Array.of(learningRate, step, gradScale), [3]);

/**
 * Moves parameters. It owns a state per parameter, made when first needed and kept under the parameter's global name.
 *
 * O-1: `step` reads the gradient and changes the parameter and its state in place; nothing else.
 *      `stepMany` does so for many parameters with few kernel calls, to the same bits as `step` for each, with the options as `updateNumbers`.
 * O-2: the result depends on parameter, gradient, state and options alone, so parameters may come in any order.
 */
export interface Optimizer {
  /** Names of the state tensors of each parameter, in checkpoint order. */
  readonly stateNames: readonly string[];
  step(parameter: Parameter, gradient: Tensor, o: StepOptions): void;
  stepMany(moved: readonly Moved[], numbers: Tensor): void;
  /** The state tensors by name; the optimizer keeps owning them. Zeros before the first step. */
  state(parameter: Parameter): Record<string, Tensor>;
  /** Replaces the state: after a resume. Throws ERR_CHECKPOINT when one is missing, ShapeError when one does not fit. */
  load(parameter: Parameter, state: Record<string, ArrayLike<number>>): void;
  dispose(): void;
}

export interface AdamwOptions {
  betas?: readonly [number, number];
  eps?: number;
  weightDecay?: number;
  /** A factor on the learning rate by a parameter's name, 1 where it learns as the others do. */
  learningScale?: LearningScale;
}

/**
 * Adam with decoupled weight decay: p *= 1 - lr * decay for parameters that decay, then the bias-corrected Adam step.
 * Source: Loshchilov and Hutter 2019.
 */
export function adamw({ betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01, learningScale = () => 1 }: AdamwOptions = {}): Optimizer {
  const states = new Map<string, { m: Tensor; v: Tensor }>();

  const stateOf = (parameter: Parameter): { m: Tensor; v: Tensor } => {
    let state = states.get(parameter.name);
    if (state === undefined) {
      state = { m: owned(zeros(parameter.shape, parameter.value.dtype)), v: owned(zeros(parameter.shape, parameter.value.dtype)) };
      states.set(parameter.name, state);
    }
    return state;
  };

  return {
    stateNames: ["m", "v"],
    step(parameter, gradient, { step, learningRate, gradScale }) {
      const { m, v } = stateOf(parameter);
      const decay = parameter.decay ? weightDecay : 0;
      adamwKernel([parameter.value, gradient, m, v], [learningRate * learningScale(parameter.name), betas[0], betas[1], eps, decay, step, gradScale]);
    },
    stepMany(moved, numbers) {
      for (const [scale, alike] of byScale(moved, learningScale)) withScaled(numbers, scale, (scaled) => inGroups(alike, perCall, (group) => adamwManyKernel(
        [...group.flatMap(([parameter, gradient]) => [parameter.value, gradient, stateOf(parameter).m, stateOf(parameter).v]), scaled],
        [betas[0], betas[1], eps, ...group.map(([parameter]) => (parameter.decay ? weightDecay : 0))],
      )));
    },
    state: (parameter) => ({ ...stateOf(parameter) }),
    load(parameter, data) {
      const { m, v } = stateOf(parameter);
      m.write(needState(parameter, data, "m"));
      v.write(needState(parameter, data, "v"));
    },
    dispose() {
      for (const { m, v } of states.values()) m.dispose(), v.dispose();
      states.clear();
    },
  };
}

function byScale(moved: readonly Moved[], scaleOf: LearningScale): Map<number, Moved[]> {
  const groups = new Map<number, Moved[]>();
  for (const each of moved) groups.set(scaleOf(each[0].name), [...(groups.get(scaleOf(each[0].name)) ?? []), each]);
  return groups;
}

/** The numbers of an update with another learning rate, worked out where they are: a recorded step takes them anew every time. */
function withScaled(numbers: Tensor, scale: number, use: (scaled: Tensor) => void): void {
  if (scale === 1) return use(numbers);
  const scope = new Scope("a scaled learning rate");
  try {
    use(scope.enter(() => withoutRecording(() => mul(numbers, fromArray(Float64Array.of(scale, 1, 1), [3])))));
  } finally {
    scope.close();
  }
}

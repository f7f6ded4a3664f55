import { type Tensor, beginOp, endOp } from "../tensor/index.ts";
import { type GradientRule, recordingTape } from "./tape.ts";

/** A gradient function: from the output's gradient and what forward saved. Returns a new tensor, `dy` itself or a view of `dy`. */
type OneGradient<S> = (dy: Tensor, saved: S) => Tensor;
/** Several gradients that one kernel computes together, in the order of the names in the key. */
type ManyGradients<S> = (dy: Tensor, saved: S) => readonly (Tensor | undefined)[];

export interface OpDefinition<A extends readonly unknown[], S> {
  name: string;
  /** Names of the leading tensor arguments; further arguments are options. */
  operands: readonly string[];
  /** Checks shapes, allocates, queues kernels. `saves` is all that the gradients may look at: nothing else is kept for them. */
  forward(...args: A): { output: Tensor; saves: S };
  /** One function per operand, or per group ("weight, bias"). An operand without one gets no gradient. */
  gradients: Record<string, OneGradient<S> | ManyGradients<S>>;
}

/**
 * An operation: forward and gradients in one breath. The result is a plain function that records itself on the
 * tape that is recording, if an operand needs a gradient.
 */
export function defineOp<A extends readonly unknown[], S>(definition: OpDefinition<A, S>): (...args: A) => Tensor {
  const { name, operands, forward } = definition;
  const rules = Object.entries(definition.gradients)
    .map(([key, gradient]) => toRule(name, operands, key, gradient)) as GradientRule<unknown>[];
  const count = operands.length;
  return (...args) => {
    const { output, saves } = named(name, forward, args);
    const tape = recordingTape();
    if (tape !== undefined) {
      tape.add({ op: name, inputs: args.length === count ? args : args.slice(0, count), outputs: [output], rules, saved: saves });
    }
    return output;
  };
}

/** Memory that is refused is refused to `name`. */
function named<A extends readonly unknown[], R>(name: string, work: (...args: A) => R, args: A): R {
  const outer = beginOp(name);
  try {
    return work(...args);
  } finally {
    endOp(outer);
  }
}

function toRule<S>(op: string, operands: readonly string[], key: string, gradient: OneGradient<S> | ManyGradients<S>): GradientRule<S> {
  const positions = key.split(",").map((operand) => operands.indexOf(operand.trim()));
  if (positions.includes(-1)) throw new Error(`${op}: gradient "${key}" names an operand that is not one of ${operands.join(", ")}`);
  const walkedBack = `gradient of ${op}`;
  return {
    operands: positions,
    run: (dys, saved) => {
      const result = named(walkedBack, gradient as (dy: Tensor, saved: S) => ReturnType<typeof gradient>, [dys[0]!, saved]);
      return Array.isArray(result) ? result : [result as Tensor];
    },
  };
}

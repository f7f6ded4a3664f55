import { type Gradients, type Seed, Tape } from "../../autograd/index.ts";
import type { ForwardContext, TensorComponent } from "../../plugin/index.ts";
import { add, reshape } from "../../ops/index.ts";
import { enteredScope, full, type Tensor } from "../../tensor/index.ts";

/**
 * One component's forward of one microbatch, and its way back. The border of a component is the border of a tape: gradients that
 * several consumers give for one output are added in edge order, wherever the consumers run. That is why one process and four
 * processes give the same bits.
 * All calls run inside the scope the caller has entered, the same one for all. A pass goes back once: whole, or in two halves.
 */
export interface ComponentPass {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Gradients for the outputs, by port -> gradients of the inputs that want one, by port, and of the parameters, by name. */
  backward(outputGradients: PortTensors): { inputs: Record<string, Tensor>; parameters: Map<string, Tensor> };
  /** The first half: the gradients of the inputs. Of what the forward made, it frees what `backwardWeights` does not look at; outputs stay. */
  backwardInputs(outputGradients: PortTensors): Record<string, Tensor>;
  /** The second half: the gradients of the parameters, once, after `backwardInputs`. */
  backwardWeights(): Map<string, Tensor>;
}

type PortTensors = Readonly<Record<string, Tensor>>;

/** `wants` names the input ports whose producers need a gradient. */
export function forwardPass(
  component: TensorComponent, inputs: Readonly<Record<string, Tensor>>, wants: ReadonlySet<string>, context: ForwardContext,
): ComponentPass {
  const parameters = component.frozen ? [] : Object.entries(component.parameters()).filter(([, parameter]) => parameter.trainable);
  const tape = new Tape();
  // A view of its own per input: the tape's leaf is this use of the tensor, not the producer's output.
  const leaves = Object.fromEntries(Object.entries(inputs).map(([port, tensor]) => [port, reshape(tensor, tensor.shape)]));
  for (const port of wants) tape.watch(leaves[port]);
  const learns = context.training && (parameters.length > 0 || wants.size > 0);
  const outputs = learns ? tape.record(() => component.forward(leaves, context)) : component.forward(leaves, context);
  // An output may depend on nothing that learns, though its component does: a frozen table beside an adapter.
  const seeds = (gradients: PortTensors): Seed[] => Object.entries(gradients).map(([port, gradient]) => [outputs[port], gradient] as const).filter(([output]) => tape.needs(output));
  const ofInputs = (gradients: Gradients): Record<string, Tensor> => Object.fromEntries(present([...wants].map((port) => [port, gradients.get(leaves[port])])));
  const ofParameters = (gradients: Gradients): Map<string, Tensor> => new Map(present(parameters.map(([name, { value }]) => [name, gradients.get(value)])));
  let weights: (() => Gradients) | undefined;
  return {
    outputs,
    backward(outputGradients) {
      const gradients = tape.backward(seeds(outputGradients));
      return { inputs: ofInputs(gradients), parameters: ofParameters(gradients) };
    },
    backwardInputs(outputGradients) {
      const half = tape.backwardInputs(seeds(outputGradients)), kept = new Set(Object.values(outputs)), scope = enteredScope();
      weights = half.weights;
      for (const tensor of half.unneeded()) if (tensor.scope === scope && !kept.has(tensor)) tensor.dispose();
      return ofInputs(half);
    },
    backwardWeights: () => ofParameters(weights!()),
  };
}

function present(entries: readonly (readonly [name: string, gradient: Tensor | undefined])[]): [string, Tensor][] {
  return entries.filter((entry): entry is readonly [string, Tensor] => entry[1] !== undefined).map(([name, tensor]) => [name, tensor]);
}

/** The gradient that starts a backward pass at a loss: one. */
export function lossSeed(loss: Tensor): Tensor {
  return full(loss.shape, 1, loss.dtype);
}

/** The sum of what the consumers of one output sent back, in the order of the edges. */
export function sumInEdgeOrder(gradients: readonly Tensor[]): Tensor {
  return gradients.reduce((sum, gradient) => add(sum, gradient));
}

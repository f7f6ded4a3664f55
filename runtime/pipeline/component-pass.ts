import { Tape } from "../autograd/index.ts";
import type { ForwardContext, TensorComponent } from "../plugin/index.ts";
import { add, reshape } from "../ops/index.ts";
import { full, type Tensor } from "../tensor/index.ts";

/**
 * One component's forward of one microbatch, and its way back. The border of a component is the border of a tape: gradients that
 * several consumers give for one output are added in edge order, wherever the consumers run. That is why one process and four
 * processes give the same bits.
 * Both calls run inside the scope the caller has entered.
 */
export interface ComponentPass {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Gradients for the outputs, by port -> gradients of the inputs that want one, by port, and of the parameters, by name. */
  backward(outputGradients: Readonly<Record<string, Tensor>>): { inputs: Record<string, Tensor>; parameters: Map<string, Tensor> };
}

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
  return {
    outputs,
    backward(outputGradients) {
      // An output may depend on nothing that learns, though its component does: a frozen table beside an adapter.
      const seeds = Object.entries(outputGradients).map(([port, gradient]) => [outputs[port], gradient] as const).filter(([output]) => tape.needs(output));
      const gradients = tape.backward(seeds);
      const found = new Map<string, Tensor>();
      for (const [name, parameter] of parameters) {
        const gradient = gradients.get(parameter.value);
        if (gradient) found.set(name, gradient);
      }
      const back: Record<string, Tensor> = {};
      for (const port of wants) {
        const gradient = gradients.get(leaves[port]);
        if (gradient) back[port] = gradient;
      }
      return { inputs: back, parameters: found };
    },
  };
}

/** The gradient that starts a backward pass at a loss: one. */
export function lossSeed(loss: Tensor): Tensor {
  return full(loss.shape, 1, loss.dtype);
}

/** The sum of what the consumers of one output sent back, in the order of the edges. */
export function sumInEdgeOrder(gradients: readonly Tensor[]): Tensor {
  return gradients.reduce((sum, gradient) => add(sum, gradient));
}

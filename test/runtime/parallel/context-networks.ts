/** What one process computes, and what every member of a context group does: for context-parallel.test.ts. */
import { builtins } from "../../../plugins/index.ts";
import { createRegistry, fromArray, nn, sgd, type ForwardContext, type TensorComponent } from "../../../runtime/index.ts";
import * as ops from "../../../runtime/ops/index.ts";
import { Tape } from "../../../runtime/autograd/index.ts";
import type { Group } from "../../../runtime/parallel/groups/collectives.ts";
import { ringAttention, tokenShare } from "../../../runtime/parallel/sharing/context-parallel.ts";
import { forwardPass } from "../../../runtime/pipeline/run/component-pass.ts";
import { Philox, Scope, full, type DType, type HostArray, type Tensor, sizeOf } from "../../../runtime/tensor/index.ts";

type Found = Record<string, HostArray>;
type Float = Extract<DType, "f64" | "f32" | "bf16">;

async function readAll(tensors: Record<string, Tensor>): Promise<Found> {
  return Object.fromEntries(await Promise.all(Object.entries(tensors).map(async ([name, tensor]) => [name, Float64Array.from(await tensor.readNumbers())] as const)));
}

function normal(shape: readonly number[], stream: number, dtype: Float): Tensor {
  const random = new Philox(3, stream);
  return fromArray(Float64Array.from({ length: sizeOf(shape) }, () => random.normal()), shape, dtype);
}

export interface AttentionCase { batch: number; tokens: number; heads: number; kvHeads: number; width: number; causal: boolean; masked: boolean; dtype: Float }

/** y, dq, dk and dv of attention over the whole sequence; with a group, of its own part, by the ring. */
export async function attentionOf(group: Group | undefined, c: AttentionCase): Promise<Found> {
  const scope = new Scope("attention"), tape = new Tape(), of = (heads: number): number[] => [c.batch, c.tokens, heads * c.width];
  const each = c.tokens / (group?.size ?? 1), own = (x: Tensor): Tensor => (group ? ops.slice(x, 1, group.rank * each, each) : x);
  const found = scope.enter(() => {
    const [q, k, v] = [normal(of(c.heads), 1, c.dtype), normal(of(c.kvHeads), 2, c.dtype), normal(of(c.kvHeads), 3, c.dtype)].map((x) => tape.watch(own(x)));
    // The first page hides all but its first tokens, so that whole blocks of keys are hidden.
    const mask = own(fromArray(Uint8Array.from({ length: c.batch * c.tokens }, (_, i) => Number(i >= c.tokens ? i % 3 !== 0 : i < 2)), [c.batch, c.tokens], "u8"));
    const input = { q, k, v, heads: c.heads, kvHeads: c.kvHeads, causal: c.causal, ...(c.masked && { keyMask: mask }) };
    const y = tape.record(() => (group ? ringAttention(input, group) : ops.attention(input)));
    const gradients = tape.backward([[y, own(normal(of(c.heads), 4, c.dtype))]]);
    return { y, dq: gradients.get(q)!, dk: gradients.get(k)!, dv: gradients.get(v)! };
  });
  try {
    return await readAll(found);
  } finally {
    scope.close();
  }
}

/** Losses of every step, and the parameters after the last, of a text encoder that descends: the loss is the states times fixed numbers, squared. */
export async function trained(group: Group | undefined, { options, dtype, batch, tokens, steps }: EncoderCase & { steps: number }): Promise<{ losses: number[]; values: Found }> {
  const component = encoder(options), parameters = component.parameters(), rule = sgd({ momentum: 0 }), losses: number[] = [];
  nn.materialise(parameters, { seed: 5, prefix: "", dtype });
  for (let step = 0; step < steps; step++) {
    const scope = new Scope(`step ${step}`);
    const { loss, gradients } = scope.enter(() => {
      const pass = forwardPass(component, texts(batch, tokens), new Set(), contextOf(group, batch));
      const tape = new Tape(), states = tape.watch(pass.outputs.states);
      const loss = tape.record(() => ops.mean(ops.mul(states, ops.mul(states, normal(states.shape, 8, dtype)))));
      const back = pass.backward({ states: tape.backward([[loss, full(loss.shape, 1, dtype)]]).get(states)! });
      return { loss, gradients: back.parameters };
    });
    try {
      losses.push(await loss.item());
      for (const [name, gradient] of gradients) rule.step(parameters[name], gradient, { step: step + 1, learningRate: 0.05, gradScale: 1 });
    } finally {
      scope.close();
    }
  }
  const values = await readAll(Object.fromEntries(Object.entries(parameters).map(([name, { value }]) => [name, value])));
  rule.dispose();
  nn.release(parameters);
  return { losses, values };
}

function encoder(options: Record<string, unknown>): TensorComponent {
  const plugin = createRegistry(builtins).resolve("text-encoder/llama");
  return plugin.create(plugin.options.parse({ vocabulary: 40, width: 24, layers: 2, heads: 4, kv_heads: 2, head_dim: 6, hidden: 32, ...options }), {} as never) as TensorComponent;
}

/** The later pages are shorter. */
const texts = (batch: number, tokens: number): Record<string, Tensor> => ({
  text_ids: fromArray(Int32Array.from({ length: batch * tokens }, (_, i) => (7 * i + 3) % 40), [batch, tokens], "i32"),
  text_mask: fromArray(Uint8Array.from({ length: batch * tokens }, (_, i) => Number(i % tokens < tokens - 3 * Math.floor(i / tokens))), [batch, tokens], "u8"),
});

const contextOf = (group: Group | undefined, batch: number, recompute = false): ForwardContext => ({
  training: true, step: 1, seed: 4, counts: {}, sampleIds: Array.from({ length: batch }, (_, i) => i), precision: "f32", recompute,
  tokens: group && tokenShare({ rank: group.rank, size: group.size, group: () => group }),
});

export interface EncoderCase { options: Record<string, unknown>; dtype: "f64" | "f32"; batch: number; tokens: number; recompute?: boolean }

/** States, table and every parameter's gradient of a text encoder. */
export async function encoderOf(group: Group | undefined, { options, dtype, batch, tokens, recompute = false }: EncoderCase): Promise<Found> {
  const component = encoder(options), parameters = component.parameters(), scope = new Scope("encoder");
  nn.materialise(parameters, { seed: 5, prefix: "", dtype });
  const found = scope.enter(() => {
    const pass = forwardPass(component, texts(batch, tokens), new Set(), contextOf(group, batch, recompute));
    const { states, embedding } = pass.outputs;
    const back = pass.backward({ states: normal(states.shape, 8, dtype), embedding: normal(embedding.shape, 9, dtype) });
    return { states, ...Object.fromEntries([...back.parameters].map(([name, tensor]) => [`gradient of ${name}`, tensor])) };
  });
  try {
    return await readAll(found);
  } finally {
    scope.close();
    nn.release(parameters);
  }
}

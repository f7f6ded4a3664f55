/**
 * A model that takes time and no core: every component occupies its rank's stream by a timed wait, forward, back to the input and back to
 * the weight. What remains of a step is the schedule and what moves messages.
 */
import { z } from "zod";
import { defineOp } from "../../../runtime/autograd/index.ts";
import { native } from "../../../runtime/native.ts";
import { Parameter } from "../../../runtime/nn/index.ts";
import { reshape, sum } from "../../../runtime/ops/index.ts";
import { type Components, type DataLoader, type Plugin, definePlugin, port } from "../../../runtime/plugin/index.ts";
import { type Tensor, clone, zeros } from "../../../runtime/tensor/index.ts";

/** Milliseconds. */
interface Times { forward: number; input: number; weight: number }

const component = (name: string, { forward, input, weight }: Times, from: string): string =>
  `  ${name}: { use: fusion/timed, options: { forward: ${forward}, input: ${input}, weight: ${weight}, name: ${name} }, in: { x: ${from} } }`;

const occupied = (ms: number): void => native().occupy(Math.round(ms * 1000));

const timed = defineOp({
  name: "timed",
  operands: ["x", "weight"],
  forward(x: Tensor, weight: Tensor, times: Times) {
    occupied(times.forward);
    return { output: clone(x), saves: { times, shape: weight.shape } };
  },
  gradients: {
    x(dy, { times }) {
      occupied(times.input);
      return clone(dy);
    },
    weight(_, { times, shape }) {
      occupied(times.weight);
      return zeros(shape);
    },
  },
});

const width = 64;

const block = definePlugin({
  kind: "fusion", name: "timed", version: "1.0.0",
  options: z.strictObject({ forward: z.number(), input: z.number(), weight: z.number(), name: z.string() }),
  ports: () => ({ in: { x: port(["B", width]) }, out: { y: port(["B", width]) } }),
  create({ name, ...times }) {
    const weight = new Parameter([1], { kind: "zeros" });
    return { parameters: () => ({ [`${name}.weight`]: weight }), forward: ({ x }: Record<string, Tensor>) => ({ y: timed(x, weight.value, times) }) };
  },
});

const loss = definePlugin({
  kind: "objective", name: "total", version: "1.0.0", options: z.strictObject({}), counts: [],
  ports: () => ({ in: { x: port(["B", width]) }, out: { loss: port([1]) } }),
  create: () => ({ parameters: () => ({}), forward: ({ x }: Record<string, Tensor>) => ({ loss: reshape(sum(x), [1]) }) }),
});

const rows = definePlugin({
  kind: "data-loader", name: "rows", version: "1.0.0", options: z.strictObject({}), counts: [],
  ports: () => ({ in: {}, out: { x: port(["B", width], { gradient: false }) } }),
  create: () => loader as Components["data-loader"],
});

const nothing = async (): Promise<void> => {};
const loader: Pick<DataLoader, "open" | "batch" | "close" | "stats"> = {
  open: nothing, close: nothing, stats: () => ({}),
  batch: async ({ step, batch, microbatches }) => ({
    step, counts: {},
    microbatches: Array.from({ length: microbatches }, (_, m) => {
      const size = batch / microbatches, sampleIds = Array.from({ length: size }, (_, i) => m * size + i);
      return { sampleIds, keys: sampleIds.map(String), tensors: { x: { dtype: "f32" as const, shape: [size, width], data: new Float32Array(size * width).fill(1) } } };
    }),
  }),
};

export const timedPlugins: Plugin[] = [block, loss, rows] as Plugin[];

export const stageName = (i: number): string => `s${i}`;

/**
 * A recipe of `blocks` such components in a row, `perStage` of them in a stage, a loader before and the loss in the last. The first stage
 * begins with one that takes no time and learns: so its first block has an input that wants a gradient, as all others have.
 */
export function timedRecipe({ blocks, perStage, microbatches, times, steps }: { blocks: number; perStage: number; microbatches: number; times: Times; steps: number }): string {
  const names = Array.from({ length: blocks }, (_, i) => `b${i}`), stages = Math.ceil(blocks / perStage);
  const held = (stage: number): string[] => [...(stage === 0 ? ["source"] : []), ...names.slice(stage * perStage, (stage + 1) * perStage), ...(stage === stages - 1 ? ["total"] : [])];
  return [
    "name: timed", "components:", "  rows: { use: data-loader/rows }",
    component("source", { forward: 0, input: 0, weight: 0 }, "rows.x"), ...names.map((name, i) => component(name, times, i === 0 ? "source.y" : `b${i - 1}.y`)),
    `  total: { use: objective/total, in: { x: b${blocks - 1}.y } }`,
    "stages:", "  rows: [rows]", ...Array.from({ length: stages }, (_, i) => `  ${stageName(i)}: [${held(i).join(", ")}]`),
    `train: { steps: ${steps}, batch: ${microbatches}, microbatches: ${microbatches}, threads: 1, optimizer: { use: optimizer/adamw } }`,
  ].join("\n");
}

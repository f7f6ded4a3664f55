import { RuntimeError } from "../../../runtime/errors.ts";
import type { Plugin, PluginHost, StoredTensor, TensorComponent, TensorSource, WritableTensor } from "../../../runtime/index.ts";

/** Tensors in memory as a source, and back. */
export function memorySource(tensors: ReadonlyMap<string, StoredTensor>, format = "memory"): TensorSource {
  return {
    format, path: "memory", metadata: {}, names: [...tensors.keys()], bytesRead: 0,
    entry: (name) => {
      const tensor = tensors.get(name);
      return tensor && { dtype: tensor.dtype, shape: tensor.shape };
    },
    bytes: (name, from, length) => tensors.get(name)!.data.subarray(from, from + length),
    close: () => {},
  };
}

export const written = (tensors: ReadonlyMap<string, WritableTensor>): Map<string, StoredTensor> =>
  new Map([...tensors].map(([name, { dtype, shape, pieces }]) => [name, { dtype, shape, data: new Uint8Array(Buffer.concat([...pieces()])) }]));

export const f32 = (shape: readonly number[], values: ArrayLike<number>): StoredTensor => ({ dtype: "F32", shape, data: new Uint8Array(Float32Array.from(values).buffer) });
export const numbers = (tensor: StoredTensor): number[] => Array.from(new Float32Array(tensor.data.slice().buffer));

const host: PluginHost = { resolvePath: (path) => path, build: () => { throw new Error("nothing is built inside"); }, seed: 1 };

/** Every parameter of a component with numbers that no other element has. */
export function filled(plugin: Plugin, options: unknown): Map<string, StoredTensor> {
  let next = 0.5;
  const component = plugin.create(plugin.options.parse(options), host) as TensorComponent;
  return new Map(Object.entries(component.parameters()).map(([name, { shape }]) => [name, f32(shape, Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (next += 1)))]));
}

/** For assert.throws and rejects: a checkpoint refused for this. */
export const refused = (what: RegExp) => (error: unknown): boolean => error instanceof RuntimeError && error.code === "ERR_CHECKPOINT" && what.test(error.message);

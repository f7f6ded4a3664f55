/** PEFT adapters on their way into a checkpoint: merged into the weights, or beside them, where they go on learning. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  aloneHost, checkOptions, fromFloat32, liveAdapter, mergeModule, readAdapter, RecipeError, requireFit, RuntimeError, toFloat32, touches,
  type Adapter, type Plugin, type TensorComponent, type WritableTensor,
} from "../runtime/index.ts";

type Tensors = ReadonlyMap<string, WritableTensor>;

export const isAdapter = (path: string): boolean => existsSync(join(path, "adapter_config.json"));

/** The tensors with one adapter merged in; an adapter's product is computed while its tensor is written. */
export function withAdapter(tensors: Tensors, prefix: string, adapter: Adapter): Map<string, WritableTensor> {
  return new Map([...tensors].map(([name, tensor]) => {
    const inner = name.slice(prefix.length);
    if (!name.startsWith(prefix) || !touches(adapter, inner)) return [name, tensor];
    return [name, {
      ...tensor,
      pieces: () => {
        const replaced = adapter.replaced.get(inner), module = adapter.modules.get(inner.replace(/\.weight$/, ""));
        const values = toFloat32(replaced ?? { ...tensor, data: Buffer.concat([...tensor.pieces()]) });
        if (module) mergeModule(values, module);
        return [fromFloat32(values, tensor.dtype)];
      },
    }];
  }));
}

export interface AttachRequest { folder: string; plugin: Plugin; /** Of the component, complete. */ options: Record<string, unknown>; prefix: string; baseName?: string }

/**
 * The tensors with an adapter beside them, and the component's options with the `lora` that has these parameters. Throws ERR_CHECKPOINT for
 * an adapter of another base or one that cannot learn, ERR_INPUT where the component has an adapter already.
 */
export function withLiveAdapter(tensors: Tensors, { folder, plugin, options, prefix, baseName }: AttachRequest): { tensors: Map<string, WritableTensor>; options: Record<string, unknown>; warnings: string[] } {
  if (options.lora !== undefined) throw new RuntimeError("ERR_INPUT", `${folder}: ${plugin.id} has an adapter already (its option lora). Merge one of the two (--adapter), or attach this one to the base.`, { folder });
  const adapter = readAdapter(folder);
  requireFit(adapter, (name) => tensors.get(prefix + name)?.shape, baseName);
  const live = liveAdapter(adapter, prefix, [...tensors.keys()].filter((name) => name.startsWith(prefix)));
  const checked = checkOptions(plugin, { ...options, lora: live.option }, [], () => ({ file: folder, line: 0, column: 0 }));
  if (checked.value === undefined) throw new RecipeError(folder, checked.problems);
  const parameters = (plugin.create(checked.value, aloneHost) as TensorComponent).parameters();
  const strange = [...live.tensors].filter(([name, { shape }]) => parameters[name]?.shape.join() !== shape.join()).map(([name]) => name);
  if (strange.length > 0) throw new RuntimeError("ERR_CHECKPOINT", `${folder}: ${plugin.id} has no place for ${strange.join(", ")} beside its weights. Merge the adapter instead (--adapter).`, { folder, strange });
  const stored = [...live.tensors].map(([name, { dtype, shape, data }]) => [name, { dtype, shape, pieces: () => [data] }] as const);
  return { tensors: new Map([...tensors, ...stored]), options: checked.value as Record<string, unknown>, warnings: adapter.warnings };
}

import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { RuntimeError } from "../errors.ts";
import { createFolder, writeSynced } from "./durable.ts";
import { type Manifest, manifestVersion, type ShardEntry } from "./manifest.ts";
import { type WritableTensor, writeInSteps } from "./safetensors.ts";
import { bytesOf, pieces, type TensorSource } from "./stored.ts";

export interface WriteOptions {
  /** Aborted: nothing is left of what was begun. */
  signal?: AbortSignal;
  onTensor?(name: string, done: number, of: number): void;
}

/** What a file of a released model holds at most, unless said otherwise: what Hugging Face's own tools write. */
const usualShardBytes = 5e9;

/**
 * A folder as models are released: config.json and model.safetensors, or several files with an index. `files`: more texts by name.
 * All or nothing (durable.ts). Throws ERR_INPUT when `target` exists, ERR_CHECKPOINT when it cannot be written.
 */
export async function writeRelease(target: string, o: WriteOptions & {
  tensors: ReadonlyMap<string, WritableTensor>; files: Readonly<Record<string, string>>; name?: string; maxShardBytes?: number;
  /** More files of tensors, by file name. */
  beside?: Readonly<Record<string, ReadonlyMap<string, WritableTensor>>>;
}): Promise<string[]> {
  const stem = o.name ?? "model";
  const shards = inShards(o.tensors, o.maxShardBytes ?? usualShardBytes);
  const names = shards.map((_, i) => (shards.length === 1 ? `${stem}.safetensors` : `${stem}-${ordinal(i + 1)}-of-${ordinal(shards.length)}.safetensors`));
  await createFolder(target, async (partial) => {
    let done = 0;
    for (const [i, shard] of shards.entries()) done = await write(join(partial, names[i]), shard, { format: "pt" }, o, done, o.tensors.size);
    for (const [name, tensors] of Object.entries(o.beside ?? {})) await write(join(partial, name), tensors, { format: "pt" }, { signal: o.signal }, 0, tensors.size);
    if (shards.length > 1) {
      const weight_map = Object.fromEntries(shards.flatMap((shard, i) => [...shard.keys()].map((name) => [name, names[i]])));
      writeSynced(join(partial, `${stem}.safetensors.index.json`), JSON.stringify({ metadata: { total_size: totalBytes(o.tensors) }, weight_map }, undefined, 2));
    }
    for (const [name, text] of Object.entries(o.files)) writeSynced(join(partial, name), text);
  });
  return names;
}

/**
 * A checkpoint of tensors that come from elsewhere: step 0, no optimizer. `recipe`: what recipe.yaml shall say of its components.
 * A run loads it by name (`train.from`). All or nothing.
 */
export async function writeImported(target: string, o: WriteOptions & {
  tensors: ReadonlyMap<string, WritableTensor>; recipe: string; imported: NonNullable<Manifest["imported"]>;
}): Promise<void> {
  await createFolder(target, async (partial) => {
    await write(join(partial, "model.safetensors"), o.tensors, {}, o, 0, o.tensors.size);
    writeSynced(join(partial, "recipe.yaml"), o.recipe);
    const tensors = [...o.tensors].map(([name, { dtype, shape }]): ShardEntry => ({ name, shape, dtype, file: "model.safetensors", role: "parameter" }));
    const manifest: Manifest = {
      version: manifestVersion, step: 0, seed: 0, recipe: "recipe.yaml", ledger: { step: 0, samplesSeen: 0 }, topology: { stages: {} }, tensors, imported: o.imported,
    };
    writeSynced(join(partial, "manifest.json"), JSON.stringify(manifest, undefined, 1));
  });
}

/** A tensor of a source, written as it is stored. */
export function copied(source: TensorSource, name: string): WritableTensor {
  const { dtype, shape } = source.entry(name)!;
  return { dtype, shape, pieces: () => pieces(source, name) };
}

export const totalBytes = (tensors: ReadonlyMap<string, WritableTensor>): number => [...tensors.values()].reduce((sum, tensor) => sum + bytesOf(tensor), 0);

async function write(path: string, tensors: ReadonlyMap<string, WritableTensor>, metadata: Record<string, string>, { signal, onTensor }: WriteOptions, done: number, of: number): Promise<number> {
  const steps = writeInSteps(path, tensors, metadata);
  try {
    for (let step = steps.next(); !step.done; step = steps.next()) {
      onTensor?.(step.value, ++done, of);
      await turn(); // signals are heard between tensors
      if (signal?.aborted) throw new RuntimeError("ERR_ABORTED", `${path}: given up as asked; nothing is left of it.`, { path });
    }
  } finally {
    steps.return();
  }
  return done;
}

/** In order, as many as fit; one that is too large has a file of its own. */
function inShards(tensors: ReadonlyMap<string, WritableTensor>, most: number): Map<string, WritableTensor>[] {
  const shards: Map<string, WritableTensor>[] = [new Map()];
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    if (bytes > 0 && bytes + bytesOf(tensor) > most) {
      shards.push(new Map());
      bytes = 0;
    }
    shards.at(-1)!.set(name, tensor);
    bytes += bytesOf(tensor);
  }
  return shards;
}

const ordinal = (n: number): string => String(n).padStart(5, "0");

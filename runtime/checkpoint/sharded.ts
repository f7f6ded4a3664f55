import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { RuntimeError } from "../errors.ts";
import { reason } from "./durable.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";
import type { TensorSource } from "./stored.ts";

/**
 * Several safetensors files under one `*.safetensors.index.json`, whose `weight_map` says which file holds which tensor.
 * A file's header is read when the first of its tensors is asked about. Throws ERR_CHECKPOINT for a map that is none, names a file
 * outside its folder, or promises a tensor that its file lacks.
 */
export function openSharded(path: string): TensorSource {
  const refuse = (what: string, cause?: unknown): never => {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: not a readable index of safetensors files: ${what}.`, { path, what }, { cause });
  };
  let map: Record<string, unknown> | undefined;
  try {
    map = (JSON.parse(readFileSync(path, "utf8")) as { weight_map?: Record<string, unknown> }).weight_map;
  } catch (cause) {
    return refuse(reason(cause), cause);
  }
  if (typeof map !== "object" || map === null) return refuse("it has no weight_map");
  const where = new Map(Object.entries(map).map(([name, file]) => {
    if (typeof file !== "string" || file !== basename(file)) return refuse(`"${name}" is said to be in ${JSON.stringify(file)}, which is no file of this folder`);
    return [name, file] as const;
  }));
  const files = new Map<string, SafetensorsFile>();
  const shard = (name: string): SafetensorsFile | undefined => {
    const file = where.get(name);
    if (file === undefined) return undefined;
    let opened = files.get(file);
    if (!opened) files.set(file, (opened = openSafetensors(join(dirname(path), file))));
    if (!opened.entry(name)) refuse(`"${name}" is said to be in ${file}, which does not hold it`);
    return opened;
  };
  return {
    path, metadata: {},
    format: "sharded safetensors",
    names: [...where.keys()],
    get bytesRead() { return [...files.values()].reduce((sum, file) => sum + file.bytesRead, 0); },
    entry: (name) => shard(name)?.entry(name),
    bytes(name, from, length) {
      const file = shard(name);
      if (!file) throw new RuntimeError("ERR_CHECKPOINT", `${path}: holds no tensor "${name}".`, { path, name });
      return file.bytes(name, from, length);
    },
    close: () => files.forEach((file) => file.close()),
  };
}

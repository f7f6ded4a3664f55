import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { RuntimeError } from "../errors.ts";
import { reason } from "./durable.ts";
import { openSafetensors } from "./safetensors.ts";
import { openSharded } from "./sharded.ts";
import type { TensorSource } from "./stored.ts";
import { openTorchFile } from "./torch-file.ts";

/** How a released model's folder names its weights, the preferred first. */
const usual = ["model.safetensors.index.json", "model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin"];
const known = /\.(safetensors|safetensors\.index\.json|pth|pt|bin)$/;

/**
 * The tensors of a file, or of a folder as models are released. Throws ERR_CHECKPOINT when there is none, when a folder holds several
 * and none has a usual name, or when the file is broken.
 */
export function openTensors(path: string): TensorSource {
  const file = weightsFile(path);
  if (file.endsWith(".index.json")) return openSharded(file);
  return /\.(pth|pt|bin)$/.test(file) ? openTorchFile(file) : openSafetensors(file);
}

function weightsFile(path: string): string {
  const refuse = (what: string): never => {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: ${what}.`, { path, what });
  };
  if (!existsSync(path)) return refuse("no such file or folder");
  if (!statSync(path).isDirectory()) return known.test(path) ? path : refuse("expected a .safetensors, .pth, .pt or .bin file, an index of safetensors, or a folder with one");
  const found = readdirSync(path).filter((name) => known.test(name));
  const chosen = usual.find((name) => found.includes(name)) ?? (found.length === 1 ? found[0] : undefined);
  return chosen === undefined ? refuse(found.length === 0 ? "holds no file of weights" : `holds ${found.join(", ")}: name one of them`) : join(path, chosen);
}

/** A JSON file beside weights, undefined when there is none. `name`: config.json. Throws ERR_CHECKPOINT when it is no map. */
export function readSidecar(path: string, name: string): Record<string, unknown> | undefined {
  const folder = statSync(path).isDirectory() ? path : dirname(path);
  const file = basename(path) === name ? path : join(folder, name);
  if (!existsSync(file)) return undefined;
  try {
    const value = JSON.parse(readFileSync(file, "utf8")) as unknown;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${file}: cannot be read as JSON (${reason(cause)}).`, { path: file }, { cause });
  }
  throw new RuntimeError("ERR_CHECKPOINT", `${file}: expected a map of settings.`, { path: file });
}

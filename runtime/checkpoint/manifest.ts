import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { RuntimeError } from "../errors.ts";
import { reason, syncFolder, writeSynced } from "./durable.ts";

/**
 * A checkpoint is a folder `step-<n>` of safetensors shards and a `manifest.json`. The manifest is written last (temporary
 * name, sync, rename, sync of the folder), so a folder without one is no checkpoint. Then `latest` moves, then old ones go.
 * Promises. CP-1: at every instant the last committed checkpoint is complete. CP-2: nothing but the manifest decides where a
 * tensor is, so any process layout reads any checkpoint.
 */
export const manifestVersion = 1;

export interface ShardEntry { name: string; shape: readonly number[]; dtype: string; file: string; role: "parameter" | "optimizer" }

export interface Manifest {
  version: number;
  /** Steps finished: training goes on with this step number (counted from 0). */
  step: number;
  seed: number;
  /** The resolved recipe (plain data) the weights were trained with. */
  recipe: unknown;
  /** Where the data stands: the loader is a pure function of (seed, step), so this is all it needs. */
  ledger: { step: number; samplesSeen: number };
  topology: { stages: Record<string, readonly string[]> };
  tensors: readonly ShardEntry[];
  /** Files that belong to the model: by the absolute path the recipe gives them, the name of their copy in this folder. */
  files?: Readonly<Record<string, string>>;
  /** Of weights that no run of ours made: where they came from. */
  imported?: { from: string; family: string; dialect: string; /** What the release calls itself. */ base?: string; /** Merged. */ adapters?: readonly string[]; /** Beside the weights. */ attached?: string };
  losses?: { first?: Record<string, number>; last?: Record<string, number> };
}

/** Makes `folder`/step-<n> a checkpoint and the latest one, then removes all but the `keep` newest. */
export function commitCheckpoint(root: string, partial: string, manifest: Manifest, keep: number): string {
  const final = join(root, `step-${manifest.step}`);
  try {
    writeSynced(join(partial, "manifest.json.partial"), JSON.stringify(manifest, undefined, 1));
    renameSync(join(partial, "manifest.json.partial"), join(partial, "manifest.json"));
    syncFolder(partial);
    if (existsSync(final)) rmSync(final, { recursive: true }); // the same step saved twice: both hold the same bits
    renameSync(partial, final);
    syncFolder(root);
    rmSync(join(root, "latest.partial"), { force: true });
    symlinkSync(`step-${manifest.step}`, join(root, "latest.partial"));
    renameSync(join(root, "latest.partial"), join(root, "latest"));
    syncFolder(root);
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${final}: cannot be committed (${reason(cause)}). The checkpoint before it is untouched.`, { path: final }, { cause });
  }
  for (const old of listCheckpoints(root).slice(0, -Math.max(1, keep))) rmSync(join(root, old), { recursive: true });
  return final;
}

/** Names of the complete checkpoints of a folder, oldest first. */
export function listCheckpoints(root: string): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((name) => /^step-\d+$/.test(name) && existsSync(join(root, name, "manifest.json")))
    .sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
}

/** The folder of a checkpoint given itself, a `checkpoints` folder or a run folder. Throws ERR_CHECKPOINT naming what was looked for. */
export function findCheckpoint(path: string): string {
  const found = checkpointIn(path);
  if (found !== undefined) return found;
  throw new RuntimeError("ERR_CHECKPOINT", `${path}: no checkpoint here: expected a manifest.json, or step-<n> folders holding one, found ${existsSync(path) ? "neither" : "no such folder"}.`, { path });
}

/** The same, undefined where there is none. */
export function checkpointIn(path: string): string | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  for (const root of [path, join(path, "checkpoints")]) {
    if (existsSync(join(root, "manifest.json"))) return root;
    const newest = listCheckpoints(root).at(-1);
    if (newest) return join(root, newest);
  }
  return undefined;
}

/** Shapes of the parameters by name. */
export const parameterShapes = ({ tensors }: Manifest): Map<string, readonly number[]> =>
  new Map(tensors.filter(({ role }) => role === "parameter").map(({ name, shape }) => [name, shape]));

export function readManifest(folder: string): Manifest {
  const path = join(folder, "manifest.json");
  let manifest: Manifest;
  try {
    manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
  } catch (cause) {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: cannot be read as a manifest (${reason(cause)}). Use an earlier checkpoint of the run.`, { path }, { cause });
  }
  if (manifest.version !== manifestVersion || !Array.isArray(manifest.tensors)) {
    throw new RuntimeError("ERR_CHECKPOINT", `${path}: manifest version ${manifestVersion} expected, found ${String(manifest.version)}.`, { path, version: manifest.version });
  }
  return manifest;
}

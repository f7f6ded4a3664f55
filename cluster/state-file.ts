/**
 * What a study or a sequence has finished: `state.json` in its folder, whole whenever the power fails, so that the next process goes on from there.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { explain, RuntimeError } from "../runtime/index.ts";
import { writeAtomically } from "./claim.ts";

/** A state names what it belongs to: `{ version: 1, study: "fusion", ... }`. */
export type StateOf<Kind extends string> = { version: 1 } & Record<Kind, string>;

const pathIn = (folder: string): string => join(folder, "state.json");

/** The state in `folder`, `fresh` where there is none. Throws ERR_INPUT, ending with `remedy`, when it is not readable or another's. */
export function readState<Kind extends string, S extends StateOf<Kind>>(folder: string, kind: Kind, fresh: S, remedy: string): S {
  const path = pathIn(folder);
  if (!existsSync(path)) return fresh;
  let state: S;
  try {
    state = JSON.parse(readFileSync(path, "utf8")) as S;
  } catch (cause) {
    throw new RuntimeError("ERR_INPUT", `${path}: is not readable as the state of a ${kind} (${explain(cause)}). ${remedy}`, { path }, { cause });
  }
  if (state.version !== 1 || state[kind] !== fresh[kind]) {
    throw new RuntimeError("ERR_INPUT", `${path}: belongs to ${kind} "${state[kind]}" (version ${state.version}), not to "${fresh[kind]}". ${remedy}`, { path });
  }
  return state;
}

export function writeState(folder: string, state: { version: 1 }): void {
  writeAtomically(pathIn(folder), `${JSON.stringify(state, null, 2)}\n`);
}

/** 16 hex digits that change with the content: a recipe's, so that what belongs to another one is refused. */
export const fingerprint = (content: unknown): string => createHash("sha256").update(JSON.stringify(content)).digest("hex").slice(0, 16);

/** A folder that one process works in, and files that are whole whenever the power fails. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { explain, RuntimeError } from "../runtime/index.ts";

/** Either the old content or the new, whenever the power fails. */
export function writeAtomically(path: string, text: string): void {
  const file = openSync(`${path}.part`, "w");
  try {
    writeSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.part`, path);
}

/** Nobody else works in `folder` until what this gives is called. Throws ERR_INPUT when somebody alive does. `option` chooses another folder. */
export function claim(folder: string, what: string, option: string): () => void {
  const path = join(folder, "lock");
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw new RuntimeError("ERR_INPUT", `${path}: cannot be written (${explain(cause)}).`, { path }, { cause });
      const owner = Number(readFileSync(path, "utf8"));
      if (owner && isAlive(owner)) throw new RuntimeError("ERR_INPUT", `${folder}: process ${owner} is working on this ${what}. Wait for it, or use another ${option}.`, { folder, pid: owner }, { cause });
      rmSync(path, { force: true }); // its owner was killed
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

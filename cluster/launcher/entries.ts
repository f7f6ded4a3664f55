import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { RuntimeError } from "../../runtime/index.ts";

/** How one of our own programs is started: Node's own arguments, then the file. */
export interface Entry { command: string; args: readonly string[] }

/** The folder that holds package.json, wherever the bundler has put this line. */
export function packageRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const file = join(folder, "package.json");
    if (existsSync(file) && (JSON.parse(readFileSync(file, "utf8")) as { name?: string }).name === "octavo") return folder;
    if (folder === dirname(folder)) throw new RuntimeError("ERR_CLUSTER", "octavo's package.json is in no folder above its code; reinstall the package.");
  }
}

/** True when this code runs as TypeScript (tests, development), false in the built package. */
export const fromSource: boolean = import.meta.url.endsWith(".ts");

/** `program("cluster/agent/worker")`: its source through tsx when we run from source, else its build. A child is what its parent is. */
export function program(path: string): Entry {
  if (!fromSource) return { command: process.execPath, args: [join(packageRoot(), "dist", `${path}.js`)] };
  // tsx by its full address: the child's working directory may be anywhere.
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  return { command: process.execPath, args: ["--import", tsx, "--conditions=source", join(packageRoot(), `${path}.ts`)] };
}


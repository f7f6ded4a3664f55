/** Stamps of finished set-up steps: a step is done while the hash of everything it read stays the same. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = join("build", "stamps");

/** Hash of the contents and names of all files below `paths` that `wanted` lets through, and of the extra `facts`. */
export function hashOf(paths, facts = [], wanted = () => true) {
  const hash = createHash("sha256");
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const file of paths.flatMap(filesBelow)) if (wanted(file)) hash.update(`${file}\0`).update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}

export function isDone({ name, hash }) {
  const path = join(folder, name);
  return existsSync(path) && readFileSync(path, "utf8") === hash;
}

export function markDone({ name, hash }) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), hash);
}

function filesBelow(path) {
  if (!existsSync(path)) return [];
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).sort().flatMap((name) => filesBelow(join(path, name)));
}

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const place = join("build", "native", "octavo.node");

/**
 * Where the addon lies: `build/native/octavo.node` in the nearest folder above this file, source or bundled.
 * OCTAVO_ADDON names another one, as an absolute path: a build with sanitizers.
 */
export function addonPath(): { path: string; exists: boolean } {
  const named = process.env.OCTAVO_ADDON;
  if (named) return { path: named, exists: existsSync(named) };
  let folder = dirname(fileURLToPath(import.meta.url));
  let nearest: string | undefined;
  for (;;) {
    if (existsSync(join(folder, place))) return { path: join(folder, place), exists: true };
    if (nearest === undefined && existsSync(join(folder, "package.json"))) nearest = join(folder, place);
    const above = dirname(folder);
    if (above === folder) return { path: nearest ?? place, exists: false };
    folder = above;
  }
}

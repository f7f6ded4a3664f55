import { createActorSystem } from "../../actor/index.ts";
import { fromFailure } from "../../errors.ts";
import { createRegistry, type Plugin } from "../../plugin/index.ts";
import { createZeromqTransport } from "../../transport/index.ts";
import { checkRecipe } from "../plan/check.ts";
import type { WorkerSpec } from "./launcher.ts";
import { parseRecipe } from "../recipe/recipe.ts";
import { rank, rankNode } from "./rank.ts";

/**
 * The life of a worker process: one rank that the driver asks. It never ends by itself; its parent ends it, and the
 * operating system does when the parent dies. `linked` is called when its links are up: from then on no socket file is its
 * concern. Rejects when something fails that no caller hears of: then the process must end.
 */
export async function runWorker(spec: WorkerSpec, plugins: Iterable<Plugin>, linked: () => void = () => {}): Promise<never> {
  const registry = createRegistry(plugins);
  const transport = createZeromqTransport({ node: rankNode(spec.name), folder: spec.control.socketDir });
  const system = createActorSystem({ node: rankNode(spec.name), transport });
  const failed = new Promise<never>((_, reject) => system.onFailure(({ failure }) => reject(fromFailure(failure))));
  await system.spawn(rank, { transport, linked, resolve: ({ text, file }) => checkRecipe(parseRecipe(text, file), registry) });
  await transport.connect(spec.control.node);
  return failed;
}

import { randomBytes } from "node:crypto";
import { RuntimeError } from "../../runtime/index.ts";
import { startAgent } from "../agent/agent.ts";
import { becomeChild } from "../agent/child.ts";
import { startCoordinator } from "../control/coordinator.ts";
import { tokenVariable } from "../control/protocol.ts";
import type { Output } from "./output.ts";

/** Serves until the process is ended: by its parent's death, or from the terminal when started by hand. */
export async function serveCoordinator(port: number, output: Output): Promise<void> {
  becomeChild();
  const given = takeToken();
  const token = given ?? randomBytes(24).toString("hex");
  const { address } = await startCoordinator({ token, port });
  output.event({ event: "listening", address } as { event: string });
  output.say(`listening on ${address}${given ? "" : `; give agents ${tokenVariable}=${token}`}`);
  await new Promise(() => {});
}

/** Serves until the coordinator is lost; then its workers are dead, and the run failed. */
export async function serveAgent({ coordinator, name }: { coordinator: string; name: string }, output: Output): Promise<void> {
  becomeChild();
  const token = takeToken();
  if (!token) throw new RuntimeError("ERR_INPUT", `An agent needs the coordinator's token in ${tokenVariable}; \`octavo coordinator\` prints it.`);
  const agent = await startAgent({ coordinator, token, name });
  output.event({ event: "registered", name, coordinator } as { event: string });
  output.say(`agent ${name} is registered at ${coordinator}`);
  await agent.closed;
  throw new RuntimeError("ERR_CLUSTER", `Agent ${name} has lost the coordinator at ${coordinator}; its workers were ended.`, { name, coordinator });
}

/** The workers have no use for the token, so it leaves the environment they inherit. */
function takeToken(): string | undefined {
  const token = process.env[tokenVariable];
  delete process.env[tokenVariable];
  return token;
}

import { RuntimeError } from "../errors.ts";

/**
 * An address is `node/actor`: the process, then the actor in it. Examples: `trainer/run`, `worker:image/stage`.
 * AD-1: both parts are one or more of letters, digits and `. _ : -`, so that an address is also safe in a file name.
 */
export interface Address {
  readonly node: string;
  readonly actor: string;
}

const part = /^[A-Za-z0-9._:-]{1,80}$/;

export function formatAddress(node: string, actor: string): string {
  return `${checkName(node, "node")}/${checkName(actor, "actor")}`;
}

/** The few addresses a process talks to, taken apart once: every message has two of them. */
const known = new Map<string, Address>();
const mostKnown = 4096;

export function parseAddress(address: string): Address {
  return known.get(address) ?? parse(address);
}

function parse(address: string): Address {
  const parts = address.split("/");
  if (parts.length !== 2) {
    throw new RuntimeError("ERR_ADDRESS", `address "${address}": expected "node/actor" with one slash, got ${parts.length - 1}.`, { address });
  }
  const parsed = Object.freeze({ node: checkName(parts[0], "node"), actor: checkName(parts[1], "actor") });
  if (known.size >= mostKnown) known.clear();
  known.set(address, parsed);
  return parsed;
}

/** The name itself, or ERR_ADDRESS saying which characters it may have. */
export function checkName(name: string, what: "node" | "actor"): string {
  if (part.test(name)) return name;
  throw new RuntimeError("ERR_ADDRESS", `${what} name "${name}": expected 1 to 80 of letters, digits and . _ : -`, { name, what });
}

import { RuntimeError } from "../errors.ts";
import { native } from "../native.ts";
import { type DType, type Shape, bytesPerElement, sizeOf } from "./dtype.ts";
import { openScopes } from "./scope.ts";

let running: string | undefined;

/** From here on allocations are made for `op`; what `endOp` takes back. The innermost name stands, so that an op made of others names its part. */
export function beginOp(op: string): string | undefined {
  const outer = running;
  running = op;
  return outer;
}

export function endOp(outer: string | undefined): void {
  running = outer;
}

/**
 * ERR_MEMORY for people and programs, from the device's refusal: who asked for what, how much is held, and by which scopes.
 * What no scope owns (parameters, states, kept results) is one of the holders.
 */
export function noRoom(shape: Shape, dtype: DType, cause: unknown): RuntimeError {
  const { bytesInUse, bytesReserved, bytesLimit } = native().memory(), bytes = sizeOf(shape) * bytesPerElement(dtype), op = running ?? "allocate";
  const holders = openScopes().map((scope) => ({ name: scope.name, bytes: scope.memory().bytesInUse }));
  const scoped = holders.reduce((sum, holder) => sum + holder.bytes, 0);
  const scopes = [...holders, { name: "no scope", bytes: Math.max(0, bytesInUse - scoped) }].filter((holder) => holder.bytes > 0).sort((a, b) => b.bytes - a.bytes).slice(0, 3);
  const limit = bytesLimit > 0 ? `limit ${inUnits(bytesLimit)}` : "what the system gives (no limit is set)";
  return new RuntimeError("ERR_MEMORY", `${op}: no room for ${dtype} (${shape.join(", ")}), ${inUnits(bytes)}; ${inUnits(bytesInUse)} in use of ${limit}`
    + (scopes.length > 0 ? `; largest scopes: ${scopes.map(({ name, bytes }) => `${name} ${inUnits(bytes)}`).join(", ")}` : "")
    + ". Use smaller microbatches, free tensors earlier or raise the limit.",
  { op, bytes, shape, dtype, bytesInUse, bytesReserved, bytesLimit, scopes }, { cause });
}

/** "500 MB": decimal, three digits. */
function inUnits(bytes: number): string {
  const step = bytes > 0 ? Math.min(4, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${Number((bytes / 1000 ** step).toPrecision(3))} ${["bytes", "kB", "MB", "GB", "TB"][step]}`;
}

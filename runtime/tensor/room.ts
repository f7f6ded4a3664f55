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

/** ERR_MEMORY of an allocation: who asked for what, and who holds how much. */
export function noRoom(shape: Shape, dtype: DType, cause: unknown): RuntimeError {
  const bytes = sizeOf(shape) * bytesPerElement(dtype), op = running ?? "allocate";
  return refused(`${op}: no room for ${dtype} (${shape.join(", ")}), ${inUnits(bytes)}`, { op, bytes, shape, dtype }, cause);
}

/** ERR_MEMORY of a replay: its size, and the command at which most of its own tensors are alive: there a smaller step saves most. */
export function noRoomToReplay(program: number, cause: unknown): RuntimeError {
  const { commands, scratchBytes, storages } = native().programDescribe(program);
  const inside = storages.filter(({ kind }) => kind === "internal"), outputs = storages.filter(({ kind }) => kind === "output").reduce((sum, { bytes }) => sum + bytes, 0);
  const change = new Float64Array(commands.length + 1);
  for (const { bytes, first, last } of inside) change[first] += bytes, change[last + 1] -= bytes;
  let alive = 0, most = 0, fullest = 0;
  for (let i = 0; i < commands.length; i++) if ((alive += change[i]) > most) [most, fullest] = [alive, i];
  const { op, operands } = commands[fullest];
  return refused(`replay: no room for the ${inUnits(scratchBytes)} of tensors of a recorded step and its outputs of ${inUnits(outputs)}; most are alive at command ${fullest + 1} of ${commands.length},`
    + ` ${op} of ${operands.map(({ form }) => form).join(", ")}`, { op, bytes: scratchBytes + outputs, command: fullest, commands: commands.length, scratchBytes }, cause);
}

/**
 * ERR_MEMORY for people and programs, from the device's refusal: `what` was refused, how much is held, and by which scopes. and programs, from the device's refusal: who asked for what, how much is held, and by which scopes.
 * What no scope owns (parameters, states, kept results) is one of the holders.
 */
function refused(what: string, details: Record<string, unknown>, cause: unknown): RuntimeError {
  const { bytesInUse, bytesReserved, bytesLimit } = native().memory();
  const holders = openScopes().map((scope) => ({ name: scope.name, bytes: scope.memory().bytesInUse }));
  const scoped = holders.reduce((sum, holder) => sum + holder.bytes, 0);
  const scopes = [...holders, { name: "no scope", bytes: Math.max(0, bytesInUse - scoped) }].filter((holder) => holder.bytes > 0).sort((a, b) => b.bytes - a.bytes).slice(0, 3);
  const limit = bytesLimit > 0 ? `limit ${inUnits(bytesLimit)}` : "what the system gives (no limit is set)";
  return new RuntimeError("ERR_MEMORY", `${what}; ${inUnits(bytesInUse)} in use of ${limit}`
    + (scopes.length > 0 ? `; largest scopes: ${scopes.map(({ name, bytes }) => `${name} ${inUnits(bytes)}`).join(", ")}` : "")
    + ". Use smaller microbatches, free tensors earlier or raise the limit.",
  { ...details, bytesInUse, bytesReserved, bytesLimit, scopes }, { cause });
}

/** "500 MB": decimal, three digits. */
function inUnits(bytes: number): string {
  const step = bytes > 0 ? Math.min(4, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${Number((bytes / 1000 ** step).toPrecision(3))} ${["bytes", "kB", "MB", "GB", "TB"][step]}`;
}

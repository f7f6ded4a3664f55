import { RuntimeError, nearest } from "../errors.ts";
import type { CallOptions, CastOptions, EndpointRef, Ref } from "./definition.ts";

/**
 * References arranged along named axes, row-major in the order the axes are written.
 * `mesh(refs, { axes: { data: 2, stage: 4 } }).slice({ stage: 1 }).forward.callAll(input)`
 *
 * ME-1: `callAll` resolves with the replies in mesh order. The first failure rejects it and aborts the calls still open.
 * ME-2: `broadcast` casts to every member, also when one refuses; then it throws the first refusal.
 * ME-3: `slice` fixes the axes it names, which disappear; the order of the others stays.
 */
export type Mesh<E> = {
  readonly [K in keyof E]: Ref<E>[K] extends EndpointRef<infer P, infer R> ? MeshEndpoint<P, R> : never;
} & {
  readonly axes: Readonly<Record<string, number>>;
  readonly refs: readonly Ref<E>[];
  slice(at: Record<string, number>): Mesh<E>;
  /** The one member at these coordinates. */
  at(coordinates: Record<string, number>): Ref<E>;
};

export interface MeshEndpoint<Payload, Reply> {
  callAll(...args: Parameters<EndpointRef<Payload, Reply>["call"]>): Promise<Reply[]>;
  broadcast(...args: Parameters<EndpointRef<Payload, Reply>["cast"]>): void;
}

export function mesh<E>(refs: readonly Ref<E>[], { axes }: { axes: Record<string, number> }): Mesh<E> {
  const names = Object.keys(axes);
  const size = names.reduce((product, name) => product * axes[name], 1);
  if (size !== refs.length) {
    throw new RuntimeError("ERR_INPUT", `mesh (${names.map((n) => `${n}: ${axes[n]}`).join(", ")}): expected ${size} references, got ${refs.length}.`, { axes, got: refs.length });
  }
  const slice = (at: Record<string, number>): Mesh<E> => {
    for (const name of Object.keys(at)) checkCoordinate(axes, name, at[name]);
    const kept = refs.filter((_, index) => {
      const here = coordinatesOf(index, axes);
      return Object.keys(at).every((name) => here[name] === at[name]);
    });
    return mesh(kept, { axes: Object.fromEntries(names.filter((n) => !(n in at)).map((n) => [n, axes[n]])) });
  };
  const self: Record<string, unknown> = {
    axes,
    refs,
    slice,
    at(coordinates: Record<string, number>) {
      const missing = names.filter((n) => !(n in coordinates));
      if (missing.length > 0) throw new RuntimeError("ERR_INPUT", `mesh.at: expected a coordinate for every axis, missing ${missing.join(", ")}; slice() keeps the others.`, { axes, coordinates });
      return slice(coordinates).refs[0];
    },
  };
  for (const endpoint of refs[0] ? Object.keys(refs[0]).filter((key) => key !== "address") : []) {
    const of = (ref: Ref<E>): EndpointRef<unknown, unknown> => (ref as Record<string, unknown>)[endpoint] as EndpointRef<unknown, unknown>;
    self[endpoint] = {
      callAll: (payload?: unknown, options: CallOptions = {}) => callAll(refs.map(of), payload, options),
      broadcast: (payload?: unknown, options: CastOptions = {}) => broadcast(refs.map(of), payload, options),
    } satisfies MeshEndpoint<unknown, unknown>;
  }
  return self as Mesh<E>;
}

async function callAll(members: EndpointRef<unknown, unknown>[], payload: unknown, options: CallOptions): Promise<unknown[]> {
  const rest = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, rest.signal]) : rest.signal;
  try {
    return await Promise.all(members.map((member) => member.call(payload, { ...options, signal })));
  } catch (error) {
    rest.abort(error);
    throw error;
  }
}

function broadcast(members: EndpointRef<unknown, unknown>[], payload: unknown, options: CastOptions): void {
  const refusals: unknown[] = [];
  for (const member of members) {
    try {
      member.cast(payload, options);
    } catch (error) {
      refusals.push(error);
    }
  }
  if (refusals.length > 0) throw refusals[0];
}

function coordinatesOf(index: number, axes: Record<string, number>): Record<string, number> {
  const coordinates: Record<string, number> = {};
  for (const name of Object.keys(axes).reverse()) {
    coordinates[name] = index % axes[name];
    index = Math.floor(index / axes[name]);
  }
  return coordinates;
}

function checkCoordinate(axes: Record<string, number>, name: string, value: number): void {
  if (!(name in axes)) {
    const near = nearest(name, Object.keys(axes));
    throw new RuntimeError("ERR_INPUT", `mesh has no axis "${name}"${near ? `; did you mean "${near}"?` : "."} Its axes: ${Object.keys(axes).join(", ")}.`, { axes, name });
  }
  if (!(Number.isInteger(value) && value >= 0 && value < axes[name])) {
    throw new RuntimeError("ERR_INPUT", `mesh axis "${name}" goes from 0 to ${axes[name] - 1}, got ${value}.`, { axes, name, value });
  }
}

import type { CallOptions, CastOptions, Ref } from "./definition.ts";

/** References arranged along named axes, row-major in the order the axes are written. */
export interface Mesh<E> {
  readonly axes: Readonly<Record<string, number>>;
  readonly refs: readonly Ref<E>[];
  /** The sub-mesh at the given coordinates; the axes named disappear. `slice({ stage: 1 })`. */
  slice(at: Record<string, number>): Mesh<E>;
  /** The one reference of a mesh of size one, or at full coordinates. */
  at(coordinates?: Record<string, number>): Ref<E>;
  /** Calls every member; resolves with the replies in mesh order; the first failure rejects and aborts the others. */
  callAll<K extends keyof E & string>(endpoint: K, payload?: unknown, options?: CallOptions): Promise<unknown[]>;
  broadcast<K extends keyof E & string>(endpoint: K, payload?: unknown, options?: CastOptions): void;
}

export declare function mesh<E>(refs: readonly Ref<E>[], options: { axes: Record<string, number> }): Mesh<E>;

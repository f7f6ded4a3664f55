import type { CallOptions, CastOptions, EndpointRef, Endpoints, Ref } from "./definition.ts";
import type { Answer } from "./calls.ts";

/** What references need of their system. */
export interface Port {
  call(address: string, endpoint: string, payload: unknown, options: CallOptions): Promise<unknown>;
  fetch(address: string, endpoint: string, payload: unknown, options: CallOptions): Promise<Answer>;
  cast(address: string, endpoint: string, payload: unknown, options: CastOptions): void;
}

const noOptions = {};

/** A reference has one property per endpoint of the definition, so a misspelt endpoint is a type error, not a lost message. */
export function makeRef<E extends Endpoints<never>>(port: Port, endpoints: E, address: string): Ref<E> {
  const ref: Record<string, unknown> = { address };
  for (const endpoint of Object.keys(endpoints)) {
    ref[endpoint] = {
      call: (payload?: unknown, options: CallOptions = noOptions) => port.call(address, endpoint, payload, options),
      fetch: (payload?: unknown, options: CallOptions = noOptions) => port.fetch(address, endpoint, payload, options),
      cast: (payload?: unknown, options: CastOptions = noOptions) => port.cast(address, endpoint, payload, options),
    } satisfies EndpointRef<unknown, unknown>;
  }
  return ref as Ref<E>;
}

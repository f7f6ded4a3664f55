import { Packr } from "msgpackr";
import { RuntimeError } from "../errors.ts";
import { type Envelope, envelopeFromFields, envelopeToFields } from "./envelope.ts";

/**
 * Envelope <-> frames: frame 0 is the envelope in MessagePack, the frames after it are the attachments, untouched.
 *
 * CO-1: numbers keep every bit of f64 (except the sign of zero); bigint, Set, Date and typed arrays survive, a Map becomes an object.
 * CO-2: attachments are neither copied nor looked into, in both directions.
 * CO-3: whatever bytes arrive, decoding either gives a checked envelope or throws ERR_ENVELOPE.
 * CO-4: what cannot travel (a symbol, a cycle too deep to pack) throws at the sender, naming the endpoint.
 */
const packr = new Packr({ useRecords: false, moreTypes: true });

export function encode(envelope: Envelope): Uint8Array[] {
  try {
    return [packr.pack(envelopeToFields(envelope)), ...envelope.attachments];
  } catch (cause) {
    throw new RuntimeError("ERR_ENVELOPE", `message to ${envelope.to}, endpoint "${envelope.endpoint}": its payload cannot be packed. ` +
      "Send plain data; tensors go through a lane, bytes as attachments.", { to: envelope.to, endpoint: envelope.endpoint }, { cause });
  }
}

export function decode(frames: readonly Uint8Array[]): Envelope {
  if (frames.length === 0) throw new RuntimeError("ERR_ENVELOPE", "message: expected at least one frame, got none.", {});
  let fields: unknown;
  try {
    fields = packr.unpack(frames[0]);
  } catch (cause) {
    throw new RuntimeError("ERR_ENVELOPE", `message of ${frames[0].byteLength} bytes: expected MessagePack, got something else.`,
      { bytes: frames[0].byteLength }, { cause });
  }
  return envelopeFromFields(fields, frames.slice(1));
}

/** Small bodies of the transports themselves (handshakes), with the same packer. */
export const pack = (value: unknown): Uint8Array => packr.pack(value);
export const unpack = (bytes: Uint8Array): unknown => packr.unpack(bytes);

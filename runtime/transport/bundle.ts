/**
 * Several small messages in one frame: what a link costs is per frame, not per byte.
 * BU-1: a bundle starts with a byte that no message of the actor system starts with (0xc1, which MessagePack never uses), then for each
 * message its length, 4 bytes little-endian, and its bytes. BU-2: unbundled messages are views of the frame, not copies.
 */
const mark = 0xc1;

export function bundle(messages: readonly (readonly Uint8Array[])[]): Uint8Array {
  let bytes = 1;
  for (const [frame] of messages) bytes += 4 + frame.byteLength;
  const out = Buffer.allocUnsafe(bytes);
  out[0] = mark;
  let at = 1;
  for (const [frame] of messages) {
    out.writeUInt32LE(frame.byteLength, at);
    out.set(frame, at + 4);
    at += 4 + frame.byteLength;
  }
  return out;
}

export const isBundle = (frames: readonly Uint8Array[]): boolean => frames.length === 1 && frames[0][0] === mark;

/** The messages of a bundle; undefined when the bytes are not one from beginning to end. */
export function unbundle(frame: Uint8Array): Uint8Array[] | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const messages: Uint8Array[] = [];
  for (let at = 1; at < frame.byteLength; ) {
    if (at + 4 > frame.byteLength) return undefined;
    const bytes = view.getUint32(at, true);
    if (at + 4 + bytes > frame.byteLength) return undefined;
    messages.push(frame.subarray(at + 4, at + 4 + bytes));
    at += 4 + bytes;
  }
  return messages;
}

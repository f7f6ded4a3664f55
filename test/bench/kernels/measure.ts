/** Launches rows of `rows.ts` and takes their time. */
import { native } from "../../../runtime/native.ts";
import { dtypeCode, sizeOf } from "../../../runtime/tensor/index.ts";
import { bf16Bits } from "../../native-cuda/device.ts";
import { type Operand, type Row, bytesOf } from "./rows.ts";

/** A tensor with repeatable content. An operand that stands twice in a row is two tensors. */
export function filled(operand: Operand): number {
  const handle = native().allocate(dtypeCode(operand.dtype), operand.shape);
  native().upload(handle, content(operand));
  return handle;
}

/** A pattern of at most 65536 elements, repeated: large arrays are filled as fast as memory is copied. */
function content({ shape, dtype, fill }: Operand): ArrayBufferView {
  const size = sizeOf(shape), value = (i: number): number => (fill === "ones" ? 1 : typeof fill === "object" ? (i * 7919) % fill.below : ((i * 7919) % 1000) / 1000 + (fill === "noise" ? -0.5 : 0.1));
  const length = Math.min(size, 65536), bytes = new Uint8Array(bytesOf({ shape, dtype, fill }));
  const pattern = dtype === "f64" ? Float64Array.from({ length }, (_, i) => value(i)) : dtype === "i32" ? Int32Array.from({ length }, (_, i) => value(i))
    : dtype === "u8" ? Uint8Array.from({ length }, (_, i) => value(i)) : dtype === "bf16" ? bf16Bits(Array.from({ length }, (_, i) => value(i))) : Float32Array.from({ length }, (_, i) => value(i));
  bytes.set(new Uint8Array(pattern.buffer));
  for (let have = pattern.byteLength; have < bytes.length; have *= 2) bytes.copyWithin(have, 0, Math.min(have, bytes.length - have));
  return bytes;
}

/** Best seconds of a launch on each number of threads; a round is as many launches as fill `roundMs`. */
export async function measure(row: Row, threadCounts: readonly number[], { rounds, roundMs }: { rounds: number; roundMs: number }): Promise<Map<number, number>> {
  const device = native(), id = device.kernel(row.kernel), best = new Map<number, number>();
  const handles = row.operands.map((operand) => (operand ? filled(operand) : 0));
  const timed = async (launches: number): Promise<number> => {
    await device.fence();
    const start = performance.now();
    for (let i = 0; i < launches; i++) device.launch(id, handles, row.scalars);
    await device.fence();
    return (performance.now() - start) / 1000 / launches;
  };
  try {
    for (const threads of threadCounts) {
      await device.fence();
      device.configure({ threads });
      await timed(1); // pages and caches
      const launches = Math.max(1, Math.ceil(roundMs / 1000 / (await timed(1))));
      let seconds = Infinity;
      for (let round = 0; round < rounds; round++) seconds = Math.min(seconds, await timed(launches));
      best.set(threads, seconds);
    }
    return best;
  } finally {
    for (const handle of handles) if (handle) device.free(handle);
  }
}

/** Writes a release or a checkpoint and stands still, telling so, at a given point: whoever started it may kill it there. */
import { writeSync } from "node:fs";
import { writeImported, writeRelease } from "../../../runtime/checkpoint/release.ts";
import type { WritableTensor } from "../../../runtime/checkpoint/safetensors.ts";

const [kind, target, stopAt] = process.argv.slice(2);
const standStill = (): void => {
  writeSync(1, "standing\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
};
const tensor = (index: number): WritableTensor => ({
  dtype: "F32", shape: [3000],
  *pieces() {
    yield new Uint8Array(6000);
    if (stopAt === `within ${index}`) standStill();
    yield new Uint8Array(6000);
  },
});
const tensors = new Map(Array.from({ length: 6 }, (_, i) => [`tensor.${i}`, tensor(i)]));
const onTensor = (_name: string, done: number): void => {
  if (stopAt === `after ${done}`) standStill();
};
if (kind === "release") await writeRelease(target, { tensors, files: { "config.json": "{}" }, maxShardBytes: 25_000, onTensor });
else await writeImported(target, { tensors, recipe: "name: imported\n", imported: { from: "x", family: "beit", dialect: "unilm" }, onTensor });

/** One hop of a microbatch's activations, B T D = 4 320 96 and a larger one, over each lane; both ends are in this process, so the way of the message itself is not in it. */
import { createLane, laneNames } from "../../../runtime/parallel/lanes/lanes.ts";
import { allocate, fence } from "../../../runtime/tensor/index.ts";
import { report, rounded } from "../report.ts";

const rounds = 40;

export async function measure(): Promise<void> {
  for (const shape of [[4, 320, 96], [4, 2048, 512]]) {
    const x = allocate(shape);
    await fence();
    for (const name of laneNames) {
      const [a, b] = [createLane(name, { node: "a" }), createLane(name, { node: "b" })];
      const start = performance.now();
      for (let i = 0; i < rounds; i++) {
        const { descriptors, attachments } = await a.send({ x });
        const { tensors, done } = await b.receive(descriptors, attachments);
        a.release(await done);
        await fence();
        tensors.x.dispose();
      }
      const ms = (performance.now() - start) / rounds;
      report({ case: `runtime/hops/${name}, ${shape.join(" ")} f32`, value: (4 * shape.reduce((p, n) => p * n, 1)) / ms / 1e6, unit: "GB/s", msPerHop: rounded(ms) });
      a.close();
      b.close();
    }
    x.dispose();
  }
}

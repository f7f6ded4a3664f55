import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Ref } from "../../../runtime/actor/definition.ts";
import { type ActorSystem, createActorSystem } from "../../../runtime/actor/system.ts";
import { native } from "../../../runtime/native.ts";
import { createLane } from "../../../runtime/parallel/lanes/lanes.ts";
import { fence, fromArray, memory } from "../../../runtime/tensor/index.ts";
import { createSocketFolder } from "../../../runtime/transport/socket-folder.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { doubler } from "./lane-actor.ts";

describe("lanes between two processes", () => {
  let folder: ReturnType<typeof createSocketFolder>;
  let system: ActorSystem;
  let child: ChildProcess;
  let exited: Promise<unknown[]>;
  let far: Ref<typeof doubler.endpoints>;

  before(async () => {
    folder = createSocketFolder();
    const transport = createZeromqTransport({ node: "parent", folder: folder.path });
    system = createActorSystem({ node: "parent", transport });
    const program = fileURLToPath(new URL("./lane-process.ts", import.meta.url));
    child = spawn(process.execPath, ["--import", "tsx", "--conditions=source", program, folder.path], { stdio: ["ignore", "inherit", "inherit"] });
    exited = once(child, "exit");
    await transport.connect("child");
    far = system.remote(doubler, "child");
  });
  after(async () => {
    await system.stop();
    assert.deepEqual(await exited, [0, null]);
    folder.remove();
  });

  for (const name of ["shared-memory", "ucx", "zeromq"] as const) {
    it(`LA-1: ${name} carries tensors there and back, 20 times, and neither side grows`, async function () {
      if (name === "ucx" && !native().ucxInfo().usable) this.skip();
      const lane = createLane(name, { node: "parent" });
      const values = Float32Array.from({ length: 50_000 }, (_, i) => Math.sin(i));
      const x = fromArray(values, [50, 1000]);
      const empty = fromArray(new Float32Array(0), [0]);
      await fence();
      const [before, farBefore] = [memory().bytesInUse, await far.bytesInUse.call()];
      for (let round = 0; round < 20; round++) {
        const sent = await lane.send({ x, empty });
        const { reply, attachments } = await far.double.fetch(sent.descriptors, { attachments: sent.attachments });
        lane.release(reply.read);
        const { tensors, done } = await lane.receive(reply.descriptors, attachments);
        const got = await tensors.x.read();
        let worst = 0;
        for (let i = 0; i < values.length; i++) worst = Math.max(worst, Math.abs(Number(got[i]) - 2 * values[i]));
        assert.equal(worst, 0, "doubling is exact in f32");
        assert.deepEqual([tensors.x.shape, tensors.empty.shape], [[50, 1000], [0]]);
        for (const tensor of Object.values(tensors)) tensor.dispose();
        await far.release.call({ lane: name, leases: await done }); // its tensors are freed
      }
      assert.equal(memory().bytesInUse, before);
      assert.equal(await far.bytesInUse.call(), farBefore);
      x.dispose();
      empty.dispose();
      lane.close();
    });
  }
});

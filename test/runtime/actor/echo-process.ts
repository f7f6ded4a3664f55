import { createActorSystem } from "../../../runtime/actor/system.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { echo } from "./echo-actor.ts";

/** Run as a child process: `echo-process.ts <node> <folder> <parent node>`. Ends when the parent's link ends. */
const [node, folder, parent] = process.argv.slice(2);
const transport = createZeromqTransport({ node, folder });
const system = createActorSystem({ node, transport, definitions: [echo] });
system.onPeerDown(() => void system.stop());
await system.spawn(echo, undefined);
await transport.connect(parent);

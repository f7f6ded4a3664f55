import { createActorSystem } from "../../../runtime/actor/system.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { doubler } from "./lane-actor.ts";

/** Run as a child process: `lane-process.ts <folder>`. Ends when the parent's link ends. */
const transport = createZeromqTransport({ node: "child", folder: process.argv[2] });
const system = createActorSystem({ node: "child", transport });
system.onPeerDown(() => void system.stop());
await system.spawn(doubler, undefined);
await transport.connect("parent");

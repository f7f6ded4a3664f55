import { createActorSystem } from "../../../runtime/actor/system.ts";
import { createZeromqTransport } from "../../../runtime/transport/zeromq.ts";
import { doubler, peer } from "./lane-actor.ts";

/** Run as a child process: `lane-process.ts <folder> [<node>]`. Ends when the parent's link ends. */
const [folder, node = "child"] = process.argv.slice(2);
const transport = createZeromqTransport({ node, folder });
const system = createActorSystem({ node, transport });
system.onPeerDown(() => void system.stop());
await system.spawn(doubler, undefined);
await system.spawn(peer, node);
await transport.connect("parent");

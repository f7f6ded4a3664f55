import { Packr } from "msgpackr";
import { Dealer } from "zeromq";

/** The other end of the raw ping-pong: `raw-ping.ts <socket>` sends back whatever arrives, unpacked and packed again. Ends with its parent's socket. */
const socket = new Dealer({ linger: 0 });
const packr = new Packr({ useRecords: false });
socket.events.on("disconnect", () => socket.close());
socket.connect(process.argv[2]);
for await (const [frame] of socket) await socket.send(packr.pack(packr.unpack(frame)));

export { type Address, formatAddress, parseAddress } from "./address.ts";
export { type Hub, createHub } from "./in-process.ts";
export { createSocketFolder } from "./socket-folder.ts";
export type { ConnectOptions, LinkStatus, PeerDown, Transport } from "./transport.ts";
export { type ZeromqOptions, createZeromqTransport } from "./zeromq.ts";

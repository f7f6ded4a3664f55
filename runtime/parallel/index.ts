export { type Group, type GroupOffer, type GroupSeat, type SeatOptions, joinGroup, offerGroup } from "./collectives.ts";
export { type FabricAsk, type FabricPeer, type FabricReading, type FabricReply, fabricSource, measureFabric } from "./fabric.ts";
export { type Whereabouts, chooseLane, laneNotes, laneOffers, whereabouts } from "./lane-choice.ts";
export { type Lane, type LaneName, type LaneOptions, type LeaseId, type SendOptions, createLane, laneNames } from "./lanes.ts";
export { tokenShare } from "./context-parallel.ts";
export { type TensorPlace, joined, membersOf, shareOut } from "./tensor-parallel.ts";
export { SlabArena, type SlabLimits } from "./slab-arena.ts";
export type { TensorDescriptor } from "./tensor-frames.ts";

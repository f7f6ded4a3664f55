export { type Lane, type LaneName, type LaneOptions, type LeaseId, chooseLane, createLane, laneNames, laneOffers, type Whereabouts, whereabouts } from "./lanes.ts";
export type { TensorDescriptor } from "./tensor-frames.ts";

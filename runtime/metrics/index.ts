export { type EventLoopDelay, type EventLoopMeter, measureEventLoop } from "./event-loop-delay.ts";

export { type Counter, type Gauge, type Histogram, type Measurement, type Metrics, createMetrics } from "./metrics.ts";
export { type EventLoopDelay, type EventLoopMeter, measureEventLoop } from "./event-loop-delay.ts";

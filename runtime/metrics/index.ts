export { type Counter, type Gauge, type Histogram, type Measurement, type Metrics, createMetrics } from "./metrics.ts";
export { type EventLoopDelay, type EventLoopMeter, measureEventLoop } from "./event-loop-delay.ts";
export { type Span, type SpanKind, type SpanLabel, type Stamps, type Timeline, createTimeline, monotonicUs, spanKinds } from "./timeline.ts";

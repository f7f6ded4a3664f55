export { type DType, type HostArray, type HostTensor, type Numbers, type Shape, bytesPerElement, dtypeCode, dtypes, hostArray, isFloat, sameShape, sizeOf, toHostArray } from "./dtype.ts";
export { beginOp, endOp } from "./room.ts";
export { Scope, enteredScope, owned, refusePromise, scoped } from "./scope.ts";
export { Tensor, allocate, configureDevice, configureIdleDevice, fence, fromArray, liveHandle, memory, resetPeak, viewOf } from "./tensor.ts";
export { type Launch, accumulate, accumulateMany, assign, clone, full, kernel, numbersOf, operandsPerCall, writeRows, zeros } from "./kernel.ts";
export { type Precision, fastBf16, precisions, widened } from "./precision.ts";
export { Philox, fnv1a32 } from "./philox.ts";
export { type Input, type NamedTensors, Program, adoptOutputs, isRecording, record, refuseRecording } from "./program.ts";

import { noise } from "../device.ts";
import { family } from "../harness.ts";

family("swiglu", (...shape) => ({
  inputs: { gate: noise(shape, 1, 5), up: noise(shape, 2, 2) },
  outputs: { y: shape },
  kernels: { swiglu_forward: ["gate up y"], swiglu_backward: ["dy gate up dgate dup"] },
}), [[0], [1], [3], [17], [2, 3, 5], [5, 14013]]);

import { hasGradient, noLeaks } from "../numbers.ts";
import { cases } from "./cases.ts";

describe("INV-G1: gradients of the ops in f64", () => {
  noLeaks();

  for (const { name, inputs, f, wrt } of cases) {
    it(`${name} has the gradient that central differences predict`, () => hasGradient(f, inputs, { wrt }));
  }
});

import { killWorkers } from "./kills.ts";

describe("workers that are killed at seeded points of a step", function () {
  this.timeout(300_000);

  it("20 kills: the run ends within 10 s, names the dead in one paragraph, and leaves no process, socket or shared memory", () => killWorkers(20));
});

import { killWorkers } from "../process/kills.ts";

describe("workers that are killed at seeded points of a step", () => {
  it("200 kills: the run ends within 10 s, names the dead in one paragraph, and leaves no process, socket or shared memory", () => killWorkers(200, console.log));
});

import assert from "node:assert/strict";
import { type ActorContext, defineActor } from "../../../runtime/actor/definition.ts";
import { mesh, type Mesh } from "../../../runtime/actor/mesh.ts";
import { type World, settled, worlds } from "./world.ts";

const seen: string[] = [];
const member = defineActor({
  name: "member",
  init: (place: string) => place,
  endpoints: {
    where: (place, prefix: string) => prefix + place,
    fail: (place, which: string) => {
      if (place === which) throw new Error(`${place} fails`);
    },
    wait: (place, which: string, { signal }: ActorContext) => new Promise<void>((resolve, reject) => {
      if (place === which) return reject(new Error(`${place} fails`));
      signal.addEventListener("abort", () => resolve(void seen.push(`${place} aborted`)));
    }),
    mark: (place) => void seen.push(place),
  },
});

describe("mesh", () => {
  let w: World;
  let grid: Mesh<typeof member.endpoints>;
  beforeEach(async () => {
    w = await worlds["between two nodes"]();
    seen.length = 0;
    const refs = [];
    for (const data of [0, 1]) for (const stage of [0, 1, 2]) refs.push(await w.spawn(member, `d${data}s${stage}`, { name: `m-${data}-${stage}` }));
    grid = mesh(refs, { axes: { data: 2, stage: 3 } });
  });
  afterEach(() => w.end());

  it("ME-1: calls everyone and returns the replies in mesh order", async () => {
    assert.deepEqual(await grid.where.callAll("at "), ["at d0s0", "at d0s1", "at d0s2", "at d1s0", "at d1s1", "at d1s2"]);
  });

  it("ME-1: the first failure rejects and aborts the rest", async () => {
    await assert.rejects(grid.wait.callAll("d1s1"), { message: "d1s1 fails" });
    await settled();
    assert.deepEqual(seen.sort(), ["d0s0 aborted", "d0s1 aborted", "d0s2 aborted", "d1s0 aborted", "d1s2 aborted"]);
    assert.equal(w.here.stats.pendingCalls, 0);
  });

  it("ME-2: broadcasts to everyone, also when one is gone", async () => {
    await w.there.stopActor(grid.refs[0]);
    grid.mark.broadcast();
    await settled();
    assert.deepEqual(seen.sort(), ["d0s1", "d0s2", "d1s0", "d1s1", "d1s2"]);
    w.here.peerDown("there", "gone");
    assert.throws(() => grid.mark.broadcast(), { code: "ERR_DEAD" });
  });

  it("ME-3: slices along named axes", async () => {
    assert.deepEqual(await grid.slice({ stage: 1 }).where.callAll(""), ["d0s1", "d1s1"]);
    assert.deepEqual(await grid.slice({ data: 1 }).where.callAll(""), ["d1s0", "d1s1", "d1s2"]);
    assert.deepEqual(grid.slice({ data: 1 }).axes, { stage: 3 });
    assert.equal(await grid.slice({ data: 1 }).at({ stage: 2 }).where.call(""), "d1s2");
    assert.equal(await grid.at({ data: 0, stage: 1 }).where.call(""), "d0s1");
  });

  it("says what is wrong with axes and coordinates", () => {
    assert.throws(() => grid.slice({ stagee: 1 }), { code: "ERR_INPUT", message: /did you mean "stage"\?/ });
    assert.throws(() => grid.slice({ stage: 3 }), { code: "ERR_INPUT", message: /from 0 to 2, got 3/ });
    assert.throws(() => grid.at({ stage: 0 }), { code: "ERR_INPUT", message: /missing data/ });
    assert.throws(() => mesh(grid.refs, { axes: { data: 4 } }), { code: "ERR_INPUT", message: /expected 4 references, got 6/ });
  });
});

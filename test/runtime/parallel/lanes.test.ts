import assert from "node:assert/strict";
import { native } from "../../../runtime/native.ts";
import { type Whereabouts, chooseLane, laneNotes, laneOffers } from "../../../runtime/parallel/lanes/choice.ts";
import { type Lane, createLane, laneNames } from "../../../runtime/parallel/lanes/lanes.ts";
import type { TensorDescriptor } from "../../../runtime/parallel/lanes/tensor-frames.ts";
import { SlabArena } from "../../../runtime/parallel/lanes/slab-arena.ts";
import { Scope, type Tensor, accumulate, allocate, fence, fromArray, memory } from "../../../runtime/tensor/index.ts";

/** As messages do: descriptors become plain data, attachments bytes at any offset. */
const travel = ({ descriptors, attachments }: { descriptors: TensorDescriptor[]; attachments: Uint8Array[] }) => ({
  descriptors: JSON.parse(JSON.stringify(descriptors)) as TensorDescriptor[],
  attachments: attachments.map((a) => {
    const shifted = new Uint8Array(a.byteLength + 1);
    shifted.set(a, 1);
    return shifted.subarray(1);
  }),
});

for (const name of laneNames) {
  describe(`lane ${name}`, function () {
    before(function () {
      const { usable, reason } = native().ucxInfo();
      if (name === "ucx" && !usable) this.test!.parent!.title += ` (skipped: ${reason})`, this.skip();
    });
    let sender: Lane;
    let receiver: Lane;
    let bytesBefore: number;
    const made: Tensor[] = [];
    const releasing: Promise<void>[] = [];
    const own = (t: Tensor): Tensor => (made.push(t), t);
    beforeEach(async () => {
      await fence();
      bytesBefore = memory().bytesInUse;
      sender = createLane(name, { node: "a" });
      receiver = createLane(name, { node: "b" });
    });
    afterEach(async () => {
      for (const tensor of made.splice(0)) tensor.dispose();
      await Promise.all(releasing.splice(0));
      sender.close();
      receiver.close();
      await fence();
      assert.equal(memory().bytesInUse, bytesBefore, "tensors leaked");
    });

    async function hop(tensors: Record<string, Tensor>): Promise<Record<string, Tensor>> {
      const { descriptors, attachments } = travel(await sender.send(tensors));
      const { tensors: received, done } = await receiver.receive(descriptors, attachments);
      for (const tensor of Object.values(received)) own(tensor);
      releasing.push(done.then((leases) => sender.release(leases)));
      return received;
    }

    it("LA-1: carries every dtype, shape and bit", async () => {
      const sent = {
        states: own(fromArray(Float32Array.of(-0, NaN, 1e-45, 3.4e38, 0.1, -1), [2, 3])),
        mask: own(fromArray(Uint8Array.of(0, 1, 255), [3])),
        ids: own(fromArray(Int32Array.of(-100, 2 ** 31 - 1), [1, 2, 1])),
        exact: own(fromArray(Float64Array.of(Math.PI), [])),
        none: own(fromArray(new Float32Array(0), [0, 4])),
      };
      const got = await hop(sent);
      assert.deepEqual(Object.keys(got), Object.keys(sent));
      for (const [key, tensor] of Object.entries(sent)) {
        assert.deepEqual([got[key].shape, got[key].dtype], [tensor.shape, tensor.dtype], key);
        const [a, b] = [await tensor.read(), await got[key].read()].map((x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength));
        assert.equal(Buffer.compare(a, b), 0, key);
      }
      assert.deepEqual(sender.stats, { messages: 1, tensors: 5, bytes: 24 + 3 + 8 + 8 });
    });

    it("LA-1: carries bf16 bit by bit, in half the bytes of f32", async () => {
      const numbers = Float32Array.of(1, -2.5, NaN, 3e38, 1e-40, -0);
      const wide = own(fromArray(numbers, [2, 3])), narrow = own(fromArray(numbers, [2, 3], "bf16"));
      const got = await hop({ narrow });
      assert.deepEqual([got.narrow.dtype, got.narrow.shape, ...await got.narrow.read()], ["bf16", [2, 3], ...await narrow.read()]);
      const { bytes } = sender.stats;
      await hop({ wide });
      assert.deepEqual([bytes, sender.stats.bytes - bytes], [12, 24]);
    });

    it("LA-1: carries the values of the moment of send, and the tensor may go at once", async () => {
      const x = fromArray(Float32Array.of(1, 2), [2]);
      const sending = sender.send({ x });
      x.write(Float32Array.of(8, 9));
      x.dispose();
      const { descriptors, attachments } = await sending;
      const { tensors } = await receiver.receive(descriptors, attachments);
      assert.deepEqual([...await own(tensors.x).read()].map(Number), [1, 2]);
    });

    it("LA-1: several messages under way keep apart, in any order of arrival", async () => {
      const messages = [];
      for (let i = 0; i < 5; i++) messages.push(await sender.send({ x: own(fromArray(new Float32Array(1000).fill(i), [1000])) }));
      for (const i of [3, 0, 4, 2, 1]) {
        const { tensors } = await receiver.receive(messages[i].descriptors, messages[i].attachments);
        assert.equal((await own(tensors.x).read())[999], i);
      }
    });

    it("LA-2: received tensors belong to the caller, or to the scope entered", async () => {
      const { descriptors, attachments } = await sender.send({ x: own(fromArray(Float32Array.of(1), [1])) });
      const scope = new Scope("receive");
      let received!: ReturnType<Lane["receive"]>;
      scope.enter(() => void (received = receiver.receive(descriptors, attachments)));
      const { tensors, done } = await received;
      assert.equal(tensors.x.scope, scope);
      scope.close();
      assert.ok(tensors.x.disposed);
      sender.release(await done);
    });

    it("LA-3: what is received may be written to, and done comes when it was freed", async () => {
      const { descriptors, attachments } = await sender.send({ x: own(fromArray(Float32Array.of(1, 2), [2])) });
      const { tensors: { x }, done } = await receiver.receive(descriptors, attachments);
      x.write(Float32Array.of(5, 6));
      assert.deepEqual([...await x.read()], [5, 6]);
      x.dispose();
      sender.release(await done);
    });

    it("LA-3: received tensors can be used before done", async () => {
      const big = own(fromArray(new Float32Array(300_000).fill(2), [300_000]));
      const { descriptors, attachments } = await sender.send({ big });
      const { tensors } = await receiver.receive(descriptors, attachments);
      const again = await hop({ big: own(tensors.big) });
      assert.equal((await again.big.read())[299_999], 2);
    });

    it("LA-5: refuses a descriptor that lies, and leaves no tensor behind", async () => {
      const { descriptors, attachments } = travel(await sender.send({ x: own(fromArray(Float32Array.of(1, 2), [2])) }));
      const lies: Partial<TensorDescriptor>[] = [{ shape: [3] }, { dtype: "f64" }, { dtype: "f128" as never }, { byteLength: 4 }, { lane: "pigeon" as never }];
      const before = memory().tensors;
      for (const lie of lies) {
        await assert.rejects(receiver.receive([{ ...descriptors[0], ...lie }], attachments), { code: "ERR_LANE" }, JSON.stringify(lie));
      }
      await assert.rejects(receiver.receive([{ ...descriptors[0], attachment: 7, slice: undefined, ticket: undefined }], attachments), { code: "ERR_LANE" });
      assert.equal(memory().tensors, before);
    });

    it("refuses to send a freed tensor", async () => {
      const x = allocate([4]);
      x.dispose();
      await assert.rejects(sender.send({ x }), { code: "ERR_HANDLE" });
    });

    it("LA-8: what has a version travels once, with the same bits, and again when the version changes or was forgotten", async () => {
      const table = own(fromArray(Float32Array.of(1, NaN, -0, 4), [2, 2])), x = own(fromArray(Float32Array.of(5), [1]));
      const pass = async (version: string): Promise<{ same: boolean; bytes: number; got: Tensor }> => {
        const before = sender.stats.bytes;
        const { descriptors, attachments } = travel(await sender.send({ table, x }, { versions: { table: version } }));
        const { tensors, done } = await receiver.receive(descriptors, attachments);
        assert.deepEqual(Object.keys(tensors), ["table", "x"]);
        releasing.push(done.then((leases) => sender.release(leases)));
        own(tensors.x);
        return { same: descriptors[0].same !== undefined, bytes: sender.stats.bytes - before, got: own(tensors.table) };
      };
      const [first, second] = [await pass("1"), await pass("1")];
      assert.deepEqual([first.same, second.same, first.bytes, second.bytes], [false, true, 20, 4]);
      const bits = async (t: Tensor) => Buffer.from((await t.read()).buffer).toString("hex");
      assert.equal(await bits(second.got), await bits(table));
      assert.throws(() => second.got.write(new Float32Array(4)), { code: "ERR_HANDLE", message: /keeps it for the messages to come/ });
      first.got.write(new Float32Array(4));
      assert.equal(await bits((await pass("1")).got), await bits(table), "the first receiver's writing does not show");
      table.write(Float32Array.of(6, 7, 8, 9));
      const third = await pass("2");
      assert.deepEqual([third.same, ...await third.got.read()], [false, 6, 7, 8, 9]);
      for (const lane of [sender, receiver]) lane.forget();
      assert.equal((await pass("2")).same, false);
      const { descriptors } = await sender.send({ table }, { versions: { table: "2" } });
      receiver.forget();
      await assert.rejects(receiver.receive(descriptors, []), { code: "ERR_LANE", message: /number 3 of what is kept here, which is nothing of this name/ });
    });

    it("LA-8: messages under way together share too, whichever is read first", async () => {
      const table = own(fromArray(Float32Array.of(1, 2), [2]));
      const sent = await Promise.all([1, 2, 3].map(() => sender.send({ table }, { versions: { table: "1" } })));
      assert.deepEqual(sent.map(({ descriptors }) => descriptors[0].same !== undefined), [false, true, true]);
      const got = await Promise.all(sent.map(({ descriptors, attachments }) => receiver.receive(descriptors, attachments)));
      for (const { tensors } of got) assert.deepEqual([...await own(tensors.table).read()], [1, 2]);
      releasing.push(got[0].done.then((leases) => sender.release(leases)));
    });

    it("LA-9: rounds what is named to bf16 for the way, at half the bytes, and nothing else", async () => {
      const values = Float32Array.of(1.001953125, 1 + 2 ** -8, -3, 1e-40), x = own(fromArray(values, [4])), y = own(fromArray(values, [4])), ids = own(fromArray(Int32Array.of(7), [1]));
      const { descriptors, attachments } = travel(await sender.send({ x, y, ids }, { compress: ["x", "ids", "absent"] }));
      assert.equal(sender.stats.bytes, 8 + 16 + 4);
      const { tensors, done } = await receiver.receive(descriptors, attachments);
      releasing.push(done.then((leases) => sender.release(leases)));
      for (const tensor of Object.values(tensors)) own(tensor);
      assert.deepEqual([tensors.x.dtype, tensors.ids.dtype], ["f32", "i32"]);
      assert.deepEqual([...await tensors.x.read()].map(Number), [1, 1, -3, 2 ** -133]); // ties to even; below 2^-126 the nearest multiple of 2^-133
      assert.deepEqual([...await tensors.y.read()], [...values]);
    });

    it("LA-10: with checksums, bytes that changed on the way name tensor, lane and producer", async () => {
      const [from, to] = [createLane(name, { node: "a", checksums: true }), createLane(name, { node: "b", checksums: true })];
      const x = own(fromArray(Float32Array.of(1, 2), [2])), before = memory().tensors;
      const good = await from.send({ x });
      const { tensors, done } = await to.receive(good.descriptors, good.attachments);
      tensors.x.dispose();
      from.release(await done);
      const bad = await from.send({ x });
      await assert.rejects(to.receive([{ ...bad.descriptors[0], checksum: bad.descriptors[0].checksum! ^ 1 }], bad.attachments),
        { code: "ERR_LANE", message: new RegExp(`lane ${name}: tensor "x" from a: its checksum is \\d+, its producer counted \\d+`) });
      const plain = await sender.send({ x });
      await assert.rejects(to.receive(plain.descriptors, plain.attachments), { code: "ERR_LANE", message: /without a checksum/ });
      assert.equal(memory().tensors, before);
      for (const lane of [from, to]) lane.close();
    });

    it("LA-6: a tensor born in the arena arrives as any other, whichever lane takes it", async () => {
      const arena = new SlabArena("a");
      const from = createLane(name, { node: "a", arena });
      const x = own(arena.allocate([2, 2]));
      x.write(Float32Array.of(1, 2, 3, 4));
      const { descriptors, attachments } = travel(await from.send({ x }));
      const { tensors, done } = await receiver.receive(descriptors, attachments);
      assert.deepEqual([[...await tensors.x.read()], tensors.x.shape], [[1, 2, 3, 4], [2, 2]]);
      tensors.x.dispose();
      from.release(await done);
      from.close();
      arena.close();
    });
  });
}

for (const name of ["shared-memory", "ucx"] as const) {
  describe(`lane ${name}, which lends slices`, () => {
    before(function () {
      if (name === "ucx" && !native().ucxInfo().usable) this.skip();
    });

    it("LA-6: hands over what was born in its arena without a copy; neither side may write to it; its slice is free when both are done", async () => {
      const arena = new SlabArena("a");
      const [a, b] = [createLane(name, { node: "a", arena }), createLane(name, { node: "b" })];
      const x = arena.allocate([1000]);
      x.write(new Float32Array(1000).fill(3));
      const { descriptors } = travel(await a.send({ x }));
      assert.deepEqual([descriptors[0].slice!.born, descriptors[0].slice!.offset], [true, arena.bornIn(x)!.offset]);
      assert.throws(() => x.write(new Float32Array(1000)), { code: "ERR_HANDLE", message: /may only be read: lane .* has handed it to a peer/ });
      assert.throws(() => accumulate(x, x), { code: "ERR_HANDLE" });
      x.dispose();
      await fence();
      assert.equal(arena.slices, 1, "the peer holds it still");
      const { tensors, done } = await b.receive(descriptors, []);
      assert.equal((await tensors.x.read())[999], 3);
      tensors.x.dispose();
      a.release(await done);
      assert.equal(arena.slices, 0);
      for (const lane of [a, b]) lane.close();
      arena.close();
    });

    it("LA-7: takes back what a dead peer held, and tells late comers that it is gone", async () => {
      const [a, b] = [createLane(name, { node: "a" }), createLane(name, { node: "b" })];
      const x = fromArray(new Float32Array(10), [10]);
      const sent = [await a.send({ x }), await a.send({ x })];
      assert.equal(a.held(), 2);
      a.peerDown("process 7 was killed");
      assert.equal(a.held(), 0);
      await assert.rejects(a.send({ x }), { code: "ERR_LANE", message: /its peer is gone: process 7 was killed/ });
      await assert.rejects(b.receive(sent[0].descriptors, []), { code: "ERR_LANE", message: /is of generation 0, expected 1: it was taken back/ });
      a.release(sent.flatMap(({ descriptors }) => descriptors[0].slice!.lease)); // under way when it died: late, not wrong
      x.dispose();
      for (const lane of [a, b]) lane.close();
    });
  });
}

describe("lane shared-memory", () => {
  const send = async (lane: Lane, floats: number): Promise<TensorDescriptor> => {
    const x = allocate([floats]);
    try {
      return (await lane.send({ x })).descriptors[0];
    } finally {
      x.dispose();
    }
  };

  it("LA-4: a released slice is used again; unreleased ones are not", async () => {
    const lane = createLane("shared-memory", { node: "a" });
    const first = await send(lane, 1000);
    const second = await send(lane, 1000);
    assert.notEqual(second.slice!.offset, first.slice!.offset);
    lane.release([first.slice!.lease]);
    assert.equal((await send(lane, 1000)).slice!.offset, first.slice!.offset);
    lane.close();
  });

  it("LA-4: refuses a second release and one of another generation", async () => {
    const lane = createLane("shared-memory", { node: "a" });
    const { lease } = (await send(lane, 10)).slice!;
    assert.throws(() => lane.release([{ ...lease, generation: lease.generation + 1 }]), { code: "ERR_LANE" });
    lane.release([lease]);
    assert.throws(() => lane.release([lease]), { code: "ERR_LANE", message: /is not held/ });
    lane.close();
  });

  it("LA-4: an old descriptor finds that its slice is another's now", async () => {
    const [a, b] = [createLane("shared-memory", { node: "a" }), createLane("shared-memory", { node: "b" })];
    const old = await send(a, 10);
    a.release([old.slice!.lease]);
    await assert.rejects(b.receive([old], []), { code: "ERR_LANE", message: /is of generation 0, expected 1: it was taken back/ });
    assert.equal((await send(a, 10)).slice!.offset, old.slice!.offset);
    await assert.rejects(b.receive([old], []), { code: "ERR_LANE", message: /is of generation 2, expected 1/ });
    for (const lane of [a, b]) lane.close();
  });

  it("grows by slabs, makes a larger one for a larger tensor, and refuses beyond its limit", async () => {
    const lane = createLane("shared-memory", { node: "a", slabs: { slabBytes: 4160, totalBytes: 16_576 } });
    const small = [await send(lane, 1024), await send(lane, 1024)]; // 64 bytes of each slab are the head of its slice
    assert.notEqual(small[0].slice!.slab!.fd, small[1].slice!.slab!.fd);
    assert.equal((await send(lane, 2048)).slice!.slab!.bytes, 8256);
    await assert.rejects(send(lane, 1), { code: "ERR_LANE", message: /no room for 4 bytes; 3 slices are taken/ });
    lane.release([small[0].slice!.lease]);
    await send(lane, 1);
    lane.close();
  });

  it("send resolves only when its copies are done, whatever was queued before them", async () => {
    const lane = createLane("shared-memory", { node: "a" });
    const [x, y] = [allocate([2_000_000]), allocate([2_000_000])];
    for (let i = 0; i < 50; i++) accumulate(x, y);
    await lane.send({ y });
    assert.equal(native().pending(), 0);
    for (const tensor of [x, y]) tensor.dispose();
    lane.close();
  });

  it("a slab that is gone is ERR_LANE, not a crash", async () => {
    const [a, b] = [createLane("shared-memory", { node: "a" }), createLane("shared-memory", { node: "b" })];
    const descriptor = await send(a, 10);
    a.close();
    await assert.rejects(b.receive([descriptor], []), { code: "ERR_LANE" });
    await assert.rejects(b.receive([{ ...descriptor, slice: { ...descriptor.slice!, slab: { ...descriptor.slice!.slab!, pid: 2 ** 22 + 1 } } }], []), { code: "ERR_LANE" });
    await fence();
    assert.equal(native().pending(), 0);
    b.close();
  });
});

describe("choosing a lane", () => {
  const here: Whereabouts = { host: "boot ns", pid: 1, user: 1000, ucx: { usable: true } };
  const withOut = { ucx: { usable: false, reason: "no libucp" } };

  it("offers what two processes have in common, best first", () => {
    const offers = (there: Partial<Whereabouts>) => laneOffers(here, { ...here, ...there });
    assert.deepEqual(offers({}), ["in-process", "shared-memory", "ucx", "zeromq"]);
    assert.deepEqual(offers({ pid: 2 }), ["shared-memory", "ucx", "zeromq"]);
    assert.deepEqual(offers({ pid: 2, ...withOut }), ["shared-memory", "zeromq"]);
    assert.deepEqual(offers({ pid: 2, user: 1001 }), ["ucx", "zeromq"]);
    assert.deepEqual(offers({ host: "other" }), ["ucx", "zeromq"]);
    assert.deepEqual(offers({ host: "other", ...withOut }), ["zeromq"]);
  });

  it("says what could not be used and why", () => {
    const notes = (there: Partial<Whereabouts>) => laneNotes({ ...here, ...(there.pid === 3 ? withOut : {}) }, { ...here, ...there });
    assert.deepEqual(notes({ pid: 2 }), []);
    assert.deepEqual(notes({ pid: 3 }), ["ucx: no libucp"]);
    assert.deepEqual(notes({ pid: 2, ...withOut }), ["ucx: at the other end: no libucp"]);
    assert.deepEqual(notes({ host: "other", user: 0, ...withOut }), ["shared-memory: two hosts", "ucx: at the other end: no libucp"]);
    assert.deepEqual(notes({ pid: 2, user: 0 }), ["shared-memory: users 1000 and 0"]);
  });

  it("takes the best offer or the wanted one, and says why not", () => {
    assert.equal(chooseLane(["zeromq", "shared-memory"]), "shared-memory");
    assert.equal(chooseLane(["zeromq", "shared-memory"], "zeromq"), "zeromq");
    assert.throws(() => chooseLane(["zeromq"], "shared-memory"), { code: "ERR_LANE", message: /offer zeromq/ });
    assert.throws(() => chooseLane(["zeromq"], "share-memory"), { code: "ERR_LANE", message: /did you mean "shared-memory"/ });
  });
});

import assert from "node:assert/strict";
import { formatAddress, parseAddress } from "../../../runtime/transport/address.ts";
import { decode, encode, pack } from "../../../runtime/transport/codec.ts";
import { type Envelope, envelopeToFields } from "../../../runtime/transport/envelope.ts";
import { bundle, isBundle, unbundle } from "../../../runtime/transport/bundle.ts";
import { OutgoingQueue } from "../../../runtime/transport/outgoing-queue.ts";
import { socketPath } from "../../../runtime/transport/socket-folder.ts";

const envelope: Envelope = {
  kind: "call", id: 7, from: "a/x", to: "b/y", endpoint: "forward", deadlineMs: 1234.5, trace: "a.1.0", incarnation: 2 ** 47, session: 3, sequence: 12,
  payload: { loss: 0.1 + 0.2, big: -(2n ** 62n), set: new Set([1, "a"]), none: undefined, when: new Date(5), floats: Float64Array.of(1e-310, Math.PI) },
  attachments: [Uint8Array.of(1, 2, 3)],
};

describe("codec", () => {
  it("CO-1: gives back what was sent, bit for bit", () => {
    assert.deepEqual(decode(encode(envelope)), envelope);
  });

  it("CO-2: attachments are the same memory, not a copy", () => {
    const frames = encode(envelope);
    assert.equal(frames[1], envelope.attachments[0]);
    assert.equal(decode(frames).attachments[0], frames[1]);
  });

  it("CO-3: refuses bytes of another version, naming both", () => {
    const fields = envelopeToFields(envelope);
    fields[0] = 1;
    assert.throws(() => decode([pack(fields)]), { code: "ERR_ENVELOPE", message: /expected version 2, got 1/ });
  });

  it("CO-3: refuses each wrong field by name", () => {
    const cases: [number, unknown, RegExp][] = [[1, 9, /kind/], [1, "call", /kind/], [2, -1, /id/], [2, NaN, /id/], [3, 5, /from/], [4, null, /to/], [5, {}, /endpoint/], [6, "x", /deadlineMs/], [7, 1, /trace/], [8, "1", /incarnation/], [9, -1, /session/], [10, null, /sequence/]];
    for (const [index, value, message] of cases) {
      const fields = envelopeToFields(envelope);
      fields[index] = value;
      assert.throws(() => decode([pack(fields)]), { code: "ERR_ENVELOPE", message });
    }
    assert.throws(() => decode([pack(envelopeToFields(envelope).slice(0, 9))]), { code: "ERR_ENVELOPE", message: /12 fields/ });
    assert.throws(() => decode([]), { code: "ERR_ENVELOPE" });
  });

  it("CO-3: whatever bytes come, the answer is an envelope or ERR_ENVELOPE", () => {
    const good = encode(envelope)[0];
    let seed = 1;
    const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n; // Lehmer's generator: the same bytes every run
    let refused = 0;
    for (let i = 0; i < 3000; i++) {
      const bytes = i % 2 ? Uint8Array.from({ length: random(80) }, () => random(256)) : Uint8Array.from(good);
      if (i % 2 === 0) bytes[random(bytes.length)] = random(256);
      try {
        decode([bytes]);
      } catch (error) {
        assert.equal((error as { code: string }).code, "ERR_ENVELOPE", String(error));
        refused++;
      }
    }
    assert.ok(refused > 1500, `${refused} of 3000 refused`);
  });

  it("CO-4: says at the sender what cannot be packed", () => {
    const deep: unknown[] = [];
    deep.push(deep);
    assert.throws(() => encode({ ...envelope, payload: deep }), { code: "ERR_ENVELOPE", message: /message to b\/y, endpoint "forward"/ });
  });
});

describe("address", () => {
  it("AD-1: parses what it formats and refuses the rest", () => {
    assert.deepEqual(parseAddress(formatAddress("worker:image", "stage")), { node: "worker:image", actor: "stage" });
    for (const wrong of ["", "a", "a/b/c", "/b", "a/", "a b/c", `${"n".repeat(81)}/x`]) {
      assert.throws(() => parseAddress(wrong), { code: "ERR_ADDRESS" }, wrong);
    }
  });

  it("refuses a socket folder that others may enter, and a path that is too long", () => {
    assert.throws(() => socketPath("/tmp", "a", "b"), { code: "ERR_ADDRESS", message: /0700/ });
    assert.throws(() => socketPath(`/tmp/${"d".repeat(100)}`, "a", "b"), { code: "ERR_ADDRESS", message: /takes 107/ });
  });
});

describe("outgoing queue", () => {
  const frame = (bytes: number): Uint8Array[] => [new Uint8Array(bytes)];

  it("TR-2: is bounded by messages and by bytes, and frees both as it is read", () => {
    const queue = new OutgoingQueue("b", { messages: 2, bytes: 100 });
    queue.push(frame(60));
    assert.throws(() => queue.push(frame(41)), { code: "ERR_MAILBOX_FULL", message: /1 messages \(60 bytes\) wait/ });
    queue.push(frame(40));
    assert.throws(() => queue.push(frame(0)), { code: "ERR_MAILBOX_FULL" });
    queue.drop(queue.head()!);
    assert.deepEqual([queue.messages, queue.bytes], [1, 40]);
    queue.push(frame(60));
  });

  it("lets a single message pass that is larger than its bound", () => {
    const queue = new OutgoingQueue("b", { messages: 2, bytes: 100 });
    queue.push(frame(1000));
    assert.throws(() => queue.push(frame(1)), { code: "ERR_MAILBOX_FULL" });
  });

  it("stays first in, first out over thousands of messages", () => {
    const queue = new OutgoingQueue("b", { messages: 1e6, bytes: 1e6 });
    const got: number[] = [];
    for (let i = 0; i < 5000; i++) {
      queue.push([Uint8Array.of(i % 256)]);
      if (i % 3) {
        const head = queue.head()!;
        got.push(head.messages[0][0][0]);
        queue.drop(head);
      }
    }
    for (let head = queue.head(7, 1e6); head; head = queue.head(7, 1e6)) {
      got.push(...head.messages.map(([frame]) => frame[0]));
      queue.drop(head);
    }
    assert.deepEqual(got, Array.from({ length: 5000 }, (_, i) => i % 256));
  });

  it("gives small messages together, large ones and those of several frames alone", () => {
    const queue = new OutgoingQueue("b", { messages: 100, bytes: 1e6 });
    for (const bytes of [10, 20, 200, 30]) queue.push(frame(bytes));
    queue.push([...frame(1), ...frame(2)]);
    queue.push(frame(40));
    const sizes: number[][] = [];
    for (let head = queue.head(8, 100); head; head = queue.head(8, 100)) {
      sizes.push(head.messages.map((frames) => frames.reduce((sum, { byteLength }) => sum + byteLength, 0)));
      queue.drop(head);
    }
    assert.deepEqual(sizes, [[10, 20], [200], [30], [3], [40]]);
    assert.deepEqual([queue.messages, queue.bytes], [0, 0]);
  });

  it("TR-7: urgent messages go first and have room where the others have none; what left is dropped from its own line", () => {
    const queue = new OutgoingQueue("b", { messages: 1, bytes: 100 });
    queue.push(frame(1));
    const underWay = queue.head()!;
    queue.push(frame(2), true);
    queue.push(frame(3), true);
    queue.drop(underWay); // was on its way when the urgent ones came
    const order: number[] = [];
    for (let head = queue.head(); head; head = queue.head()) {
      order.push(head.messages[0][0].byteLength);
      queue.drop(head);
    }
    assert.deepEqual(order, [2, 3]);
  });
});

describe("bundle", () => {
  it("BU-1: gives back every message, empty ones too, and no message of the codec looks like one", () => {
    const messages = [[Uint8Array.of(1, 2)], [new Uint8Array(0)], [new Uint8Array(70_000).fill(5)]];
    const frame = bundle(messages);
    assert.equal(isBundle([frame]), true);
    assert.deepEqual(unbundle(frame)!.map((m) => [m.byteLength, m.at(-1)]), [[2, 2], [0, undefined], [70_000, 5]]);
    assert.equal(isBundle(encode({ ...envelope, attachments: [] })), false);
    assert.equal(isBundle([frame, frame]), false);
  });

  it("BU-2: messages are views of the frame", () => {
    const frame = bundle([[Uint8Array.of(1, 2)]]);
    assert.equal(unbundle(frame)![0].buffer, frame.buffer);
  });

  it("a bundle that is cut short anywhere is none", () => {
    const frame = bundle([[Uint8Array.of(1, 2)], [Uint8Array.of(3)]]);
    const whole = [1, 7, frame.byteLength]; // nothing, the first message, both
    for (let bytes = 1; bytes <= frame.byteLength; bytes++) assert.equal(unbundle(frame.subarray(0, bytes)) !== undefined, whole.includes(bytes), `${bytes} bytes`);
  });
});

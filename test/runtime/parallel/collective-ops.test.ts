import assert from "node:assert/strict";
import { type Op, type Question, answer, given } from "./collective-ops-bodies.ts";
import { type GroupProcesses, startGroup } from "./group-processes.ts";

const members = 3;
const ranks = Array.from({ length: members }, (_, rank) => rank);
/** Tensors are (2, 3 members) and cut along axis 1. */
const [rows, each] = [2, 3];
type Row = Float64Array;
const sum = (parts: Row[]): Row => Float64Array.from(parts[0], (_, i) => parts.reduce((total, part) => total + part[i], 0));
const partOf = (x: Row, rank: number): Row => x.filter((_, i) => Math.floor((i % (x.length / rows)) / each) === rank);
const joined = (parts: Row[]): Row => Float64Array.from({ length: rows * each * members }, (_, i) => {
  const row = Math.floor(i / (each * members)), column = i % (each * members);
  return parts[Math.floor(column / each)][row * each + (column % each)];
});

const [small, large] = [rows * each, rows * each * members];
/** What each rank gives and what gradient its output gets -> its output and the gradient of what it gave. */
const table: Record<Op, { width: number; y: (x: Row[], rank: number) => Row; dx: (dy: Row[], rank: number) => Row; out: number }> = {
  enter: { width: each, out: small, y: (x) => x[0], dx: (dy) => sum(dy) },
  leave: { width: each, out: small, y: (x) => sum(x), dx: (dy) => dy[0] },
  gather: { width: each, out: large, y: (x) => joined(x), dx: (dy, rank) => partOf(dy[rank], rank) },
  part: { width: each * members, out: small, y: (x, rank) => partOf(x[0], rank), dx: (dy) => joined(dy) },
  allGather: { width: each, out: large, y: (x) => joined(x), dx: (dy, rank) => partOf(sum(dy), rank) },
  reduceScatter: { width: each * members, out: small, y: (x, rank) => partOf(sum(x), rank), dx: (dy) => joined(dy) },
};

describe("collective ops", function () {
  this.timeout(60_000);
  let group: GroupProcesses;
  before(async () => { group = await startGroup({ size: members, module: new URL("./collective-ops-bodies.ts", import.meta.url) }); });
  after(() => group?.end());

  for (const [op, { width, y, dx, out }] of Object.entries(table) as [Op, (typeof table)[Op]][]) {
    it(`${op} gives what the table says, and so does its gradient`, async () => {
      const question: Question = { op, shape: [rows, width], axis: 1 }, alikeIn = op === "enter" || op === "part", alikeOut = op === "leave" || op === "gather";
      const answers = await group.run<Awaited<ReturnType<typeof answer>>>("answer", question);
      const x = ranks.map((rank) => given(alikeIn ? 0 : rank, rows * width)), dy = ranks.map((rank) => given(alikeOut ? 5 : 5 + rank, out));
      for (const rank of ranks) {
        assert.deepEqual(answers[rank].y, y(x, rank), `output of rank ${rank}`);
        assert.deepEqual(answers[rank].dx, dx(dy, rank), `gradient at rank ${rank}`);
      }
    });
  }
});

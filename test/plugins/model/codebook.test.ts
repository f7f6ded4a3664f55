/** What a codebook promises, CB-1 to CB-4, beside the original's numbers in golden-vision.test.ts. */
import assert from "node:assert/strict";
import { add, fromArray, l2Normalize, materialise, nn, release, Scope, type Tensor } from "../../../runtime/index.ts";
import { codebook, kMeans, type Codebook, type CodebookOptions } from "../../../plugins/visual-tokenizer/codebook.ts";
import { fill } from "./fill.ts";
import { assertClose, context } from "./harness.ts";

const D = 4;
const rowsOf = (values: ArrayLike<number>) => Array.from({ length: values.length / D }, (_, r) => Array.from(values).slice(D * r, D * r + D));
const unit = (row: number[]) => row.map((x) => x / Math.hypot(...row));
const dot = (a: number[], b: number[]) => a.reduce((total, x, i) => total + x * b[i], 0);
const read = async (x: Tensor) => Array.from(await x.read() as ArrayLike<number>);

interface World { book: Codebook; scope: Scope; rows(): Promise<number[][]>; named(name: string): Promise<number[]>; step(...microbatches: Tensor[]): Promise<number[][]> }

/** A codebook with given rows (or a fresh one), and a scope that ends with `work`. `step` quantises microbatches and moves the codebook once. */
async function within(o: Partial<CodebookOptions> & { rows?: number[][]; dtype?: "f32" | "f64" }, work: (world: World) => Promise<void>): Promise<void> {
  const codes = o.codes ?? o.rows!.length, { dtype = "f64" } = o;
  const embedding = new nn.Parameter([codes, D], nn.normal(1), { trainable: false });
  const book = codebook({ codes, dim: D, decay: 0.99, kmeansRounds: 10, restartDeadAfter: 0, ...o }, embedding);
  const scope = new Scope("codebook");
  materialise(book.parameters(), { seed: 1, prefix: "", dtype, load: (name) => (name === "embedding.weight" ? o.rows?.flat() : undefined) });
  const named = (name: string) => read(book.parameters()[name].value);
  try {
    await work({
      book, scope, named, rows: async () => rowsOf(await named("embedding.weight")),
      step: async (...microbatches) => {
        let whole: Record<string, Tensor> = {};
        const all = microbatches.map((vectors) => scope.enter(() => book.quantise(vectors, context({ training: true, addUp: (name, tensor) => {
          whole = { ...whole, [name]: whole[name] ? add(whole[name], tensor) : tensor };
        } })).codes));
        scope.enter(() => book.afterStep(whole));
        return Promise.all(all.map(read));
      },
    });
  } finally {
    scope.close();
    release(book.parameters());
  }
}

describe("the codebook of VQ-KD", () => {
  const given = rowsOf(fill("rows", [6 * D])).map(unit);
  const vectors = (count: number, name = "vectors") => fromArray(fill(name, [count * D]), [count, D]);

  it("CB-1 moves by counts over the whole batch, however it is cut", async () => {
    const after = async (cuts: number[]) => {
      let rows: number[][] = [], usage: number[] = [];
      await within({ rows: given }, async ({ scope, step, rows: now, named }) => {
        const all = [...fill("vectors", [12 * D])];
        let from = 0;
        const parts = cuts.map((count) => scope.enter(() => fromArray(all.slice(D * from, D * (from += count)), [count, D], "f64")));
        await step(...parts);
        [rows, usage] = [await now(), await named("cluster_size")];
      });
      return { rows, usage };
    };
    const whole = await after([12]);
    for (const cuts of [[6, 6], [3, 3, 3, 3], [1, 11]]) {
      const cut = await after(cuts);
      assertClose(cut.rows.flat(), whole.rows.flat(), 1e-14, `cut into ${cuts}`);
      assert.deepEqual(cut.usage, whole.usage);
    }
    assert.notDeepEqual(whole.rows, given);
    assertClose([whole.usage.reduce((a, b) => a + b, 0)], [0.12], 1e-12, "usage of 12 vectors");
  });

  for (const dtype of ["f64", "f32"] as const) {
    it(`CB-2 INV-V1 rows keep unit length over many steps, and what nobody uses stays, in ${dtype}`, async () => {
      const far = [...given.map(([a, b, c]) => unit([a, b, c, 0])), [0, 0, 0, -1]];
      await within({ rows: far, dtype }, async ({ scope, step, rows }) => {
        for (let i = 0; i < 20; i++) {
          const batch = scope.enter(() => fromArray(fill(`batch ${i}`, [40 * D]).map((x, e) => (e % D === 3 ? Math.abs(x) : x)), [40, D], dtype));
          await step(batch);
          for (const [k, row] of (await rows()).entries()) assert.ok(Math.abs(Math.hypot(...row) - 1) < (dtype === "f64" ? 1e-14 : 2e-7), `code ${k} has the length ${Math.hypot(...row)}`);
        }
        const now = await rows();
        assertClose(now[6], far[6], dtype === "f64" ? 1e-14 : 1e-7, "the unused code");
        assert.ok(now.slice(0, 6).some((row, k) => dot(row, far[k]) < 0.999), "used codes must have moved");
      });
    });
  }

  it("CB-3 a fresh codebook starts as k-means of the first vectors, a loaded one stays as it was", async () => {
    // Four bundles of directions; k-means must put one centre into each bundle that a start fell into, and none anywhere else.
    const bundles = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
    const noisy = Array.from({ length: 64 }, (_, i) => unit(bundles[i % 4].map((x, d) => x + 0.05 * fill("noise", [256])[4 * i + d])));
    const data = () => fromArray(noisy.flat(), [64, D], "f64");
    await within({ codes: 8 }, async ({ scope, book, rows }) => {
      const before = await rows();
      scope.enter(() => book.quantise(data(), context({ training: false })));
      assert.deepEqual(await rows(), before, "reading starts nothing");
      scope.enter(() => book.quantise(data(), context({ training: true })));
      const started = await rows();
      for (const row of started) assert.ok(Math.max(...bundles.map((bundle) => dot(bundle, row))) > 0.98, `${row} is in no bundle`);
      const expected = rowsOf(await read(scope.enter(() => kMeans(data(), 8, 10, context().seed))));
      assertClose(started.flat(), expected.flat(), 1e-14, "k-means");
      scope.enter(() => book.quantise(vectors(64), context({ training: true })));
      assert.deepEqual(await rows(), started, "a codebook starts once");
    });
    await within({ rows: given }, async ({ scope, book, rows }) => {
      scope.enter(() => book.quantise(data(), context({ training: true })));
      assert.deepEqual(await rows(), given);
    });
    await within({ codes: 8, kmeansRounds: 0 }, async ({ scope, book, rows }) => {
      const before = await rows();
      scope.enter(() => book.quantise(data(), context({ training: true })));
      assert.deepEqual(await rows(), before);
    });
  });

  it("k-means lowers the distance to the nearest centre, and takes vectors twice when there are too few", async () => {
    const scope = new Scope("k-means");
    try {
      const data = scope.enter(() => l2Normalize(vectors(200)));
      const points = rowsOf(await read(data));
      const likeness = async (rounds: number) => {
        const centres = rowsOf(await read(scope.enter(() => kMeans(data, 16, rounds, 3))));
        return points.reduce((total, point) => total + Math.max(...centres.map((centre) => dot(centre, point))), 0);
      };
      const [start, ten] = [await likeness(0), await likeness(10)];
      assert.ok(ten > start + 2, `${start} without rounds, ${ten} after ten`);
      const few = rowsOf(await read(scope.enter(() => kMeans(l2Normalize(vectors(3)), 8, 10, 3))));
      assert.equal(few.length, 8);
      for (const row of few) assertClose([Math.hypot(...row)], [1], 1e-12, "length");
    } finally {
      scope.close();
    }
  });

  it("restart gives codes unused for so many steps half of a busy one's vectors", async () => {
    // Two bundles that one code is called for, and a code far away: after one step each bundle has a code of its own.
    const bundles = [[1, 0.3, 0, 0], [1, -0.3, 0, 0]];
    const near = Array.from({ length: 32 }, (_, i) => bundles[i % 2].map((x, d) => x + 0.01 * fill("noise", [128])[4 * i + d]));
    await within({ rows: [[1, 0, 0, 0], [0, 0, 0, -1]], restartDeadAfter: 1 }, async ({ scope, step, rows }) => {
      const batch = () => scope.enter(() => fromArray(near.flat(), [32, D], "f64"));
      assert.deepEqual(new Set((await step(batch()))[0]), new Set([0]));
      const moved = (await rows())[1];
      assert.ok(Math.max(...bundles.map((bundle) => dot(unit(bundle), moved))) > 0.999, `the dead code moved to ${moved}`);
      const [codes] = await step(batch());
      assert.deepEqual(codes.slice(0, 2).sort(), [0, 1]);
      codes.forEach((code, i) => assert.equal(code, codes[i % 2], "every vector is called like its bundle"));
    });
  });

  it("restart moves codes unused for so many steps to busy ones, and only those", async () => {
    const rows = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1]];
    await within({ rows, restartDeadAfter: 3 }, async ({ scope, step, rows: now, named }) => {
      const batch = () => scope.enter(() => fromArray([0.9, 0.1, 0, 0, 1, 0, 0.1, 0, 1, 0.1, 0, 0, 0.1, 1, 0, 0], [4, D], "f64"));
      for (const idle of [1, 2]) {
        await step(batch());
        assert.deepEqual(await named("idle"), [0, 0, idle]);
        assertClose((await now())[2], rows[2], 1e-14, "not dead yet");
      }
      await step(batch());
      const after = await now();
      assert.deepEqual(await named("idle"), [0, 0, 0]);
      assert.ok(dot(after[2], [1, 0, 0, 0]) > 0.98, `the dead code moved to ${after[2]}, the busiest is [1, 0, 0, 0]`);
      assertClose([Math.hypot(...after[2])], [1], 1e-12, "length");
      assert.ok(dot(after[1], rows[1]) > 0.999 && dot(after[0], rows[0]) > 0.999, "used codes are not restarted");
    });
  });

  it("the straight-through value is the code's, its gradient the vector's", async () => {
    await within({ rows: given }, async ({ scope, book }) => {
      const { nearest, straightThrough } = scope.enter(() => book.quantise(vectors(5), context()));
      assertClose(await read(straightThrough), await read(nearest), 1e-15, "value");
    });
  });
});

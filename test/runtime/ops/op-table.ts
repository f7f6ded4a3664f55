/**
 * Every op of runtime/ops, one row: how to draw the operands of a call. The properties that all of them have are in properties.test.ts,
 * which also fails when index.ts exports an op without a row. Options are drawn with the operands; what an op may do with neither is in its docstring.
 */
import * as ops from "../../../runtime/ops/index.ts";
import { sizeOf, type Tensor } from "../../../runtime/tensor/index.ts";
import type { Call, Draw, Drawn, Kind } from "./draw.ts";

export interface Row {
  draw: (d: Draw) => Call;
  /** Operands that get no gradient, beside ids and masks. `true`: the op is not recorded, or its gradient is zero by definition. */
  constant?: true | readonly string[];
  /** Largest error relative to the largest element (but `floor`), f32 against f64. Default 3e-6. */
  tolerance?: number;
  /** The same in bf16, where every result and every inner result is rounded to 8 bits. Default 2^-6. */
  bf16?: number;
  /** Elements below this count as this large: sums of many numbers of either sign can come out small. Default 1e-3. */
  floor?: number;
  /** Operands that stay f32 beside bf16, where the op says so. */
  f32?: readonly string[];
  /** Does not take bf16: what it does with numbers is not arithmetic. */
  without?: "bf16";
}

type T = Tensor;
type Operands = Record<string, Drawn>;

const unary = (f: (x: T) => T, kind: Kind = "normal", scale = 1): Row => ({
  draw: (d) => ({ operands: { x: d.floats(d.shape(), kind, scale) }, call: ({ x }) => f(x) }),
});

/** The derivative is written in the output, rounded and near its bound. */
const inOutput = (f: (x: T) => T): Row => ({ ...unary(f), floor: 0.1, bf16: 2 ** -5 });

const binary = (f: (a: T, b: T) => T, kinds: readonly [Kind, Kind] = ["normal", "normal"], more: Partial<Row> = {}): Row => ({
  draw(d) {
    const [a, b] = d.broadcasting();
    return { operands: { a: d.floats(a, kinds[0]), b: d.floats(b, kinds[1]) }, call: ({ a, b }) => f(a, b) };
  },
  floor: 1,
  ...more,
});

const comparison = (f: (a: T, b: T) => T): Row => binary(f, ["whole", "whole"], { constant: true });

/** Along one axis, which goes away. */
const along = (f: (x: T, axis: number) => T, least: 0 | 1, kind: Kind = "normal", more: Partial<Row> = {}): Row => ({
  draw(d) {
    const shape = d.shape(1, 6, least), axis = d.whole(-shape.length, shape.length - 1);
    return { operands: { x: d.floats(shape, kind) }, call: ({ x }) => f(x, axis), options: axis };
  },
  ...more,
});

/** Of all elements or along one axis. */
const total = (f: (x: T, axis?: number) => T, least: 0 | 1): Row => ({
  draw(d) {
    const shape = d.shape(1, 6, least), axis = d.pick(true, false) ? d.whole(0, shape.length - 1) : undefined;
    return { operands: { x: d.floats(shape) }, call: ({ x }) => f(x, axis), options: axis };
  },
  floor: 1,
});

const pairLoss = (f: (pred: T, target: T, o: ops.LossOptions) => T, draw: (d: Draw) => readonly [pred: Drawn, target: Drawn], more: Partial<Row> = {}): Row => ({
  draw(d) {
    const [pred, target] = draw(d), weight = d.pick(1, 0.25);
    return { operands: { pred, target }, call: ({ pred, target }) => f(pred, target, { weight }), options: { weight } };
  },
  constant: ["target"], floor: 1e-2,
  ...more,
});

/** Rows of at least one column; floats of either sign, two alike. */
const twoAlike = (d: Draw, kind: Kind = "normal"): [Drawn, Drawn] => {
  const shape = d.shape(1, 4, 1);
  return [d.floats(shape, kind), d.floats(shape, kind)];
};

/** Boxes (K, 4) as centre and size, with sides of one tenth to one half, apart by more than a step of differences. */
function boxes(d: Draw): [Drawn, Drawn] {
  const shape = [d.length(0), 4];
  const of = (from: Drawn, by: number): Drawn => ({ shape, data: Float64Array.from(from.data as Float64Array, (x, i) => Math.round(((i % 4 < 2 ? 0.2 : 0.1) + 0.12 * x + by * (1 + (i % 7))) * 256) / 256) });
  return [of(d.floats(shape, "positive"), 0), of(d.floats(shape, "positive"), 1 / 64)];
}

const dropping = (d: Draw, batch: number) => ({ p: d.pick(0.1, 0.5, 0.9), sampleIds: Array.from({ length: batch }, (_, i) => 3 * i + 1), seed: d.whole(0, 1e6), step: d.whole(0, 99), site: d.whole(0, 99) });

function affine(d: Draw): { x: Drawn; weight: Drawn; bias: Drawn } {
  const shape = d.shape(1, 4, 1), width = shape[shape.length - 1];
  return { x: d.floats(shape), weight: d.floats([width], "far"), bias: d.floats([width]) };
}

function attention(d: Draw): Call {
  const kvHeads = d.whole(1, 2), heads = kvHeads * d.pick(1, 2, 3), width = d.small ? d.whole(1, 3) : d.pick(1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 64);
  const rule = d.pick("none", "causal", "keyMask", "biasTable", "window", "groups", "boundaries", "dropout");
  const batch = rule === "boundaries" ? 1 : d.whole(0, 3), grid: readonly [number, number] = [d.whole(1, d.small ? 2 : 5), d.whole(1, d.small ? 2 : 5)];
  const groupSize = 2 * d.whole(1, d.small ? 2 : 9), most = d.small ? 3 : 70;
  const tied = rule === "biasTable" ? 1 + grid[0] * grid[1] : rule === "groups" ? groupSize * d.whole(1, 3) : rule === "boundaries" ? d.whole(1, most) : undefined;
  const queries = tied ?? d.whole(0, most), causal = rule === "causal" || rule === "window";
  const keys = tied ?? (causal ? queries + d.whole(0, 5) : d.whole(0, most));
  const h = rule === "groups" && heads % 2 ? 2 * heads : heads;
  const mask: Operands = rule === "keyMask" ? { keyMask: d.mask([batch, keys]) } : {}, bias: Operands = rule === "biasTable" ? { biasTable: d.floats([(2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, h]) } : {};
  const options = {
    heads: h, kvHeads, ...(causal ? { causal } : {}), ...(rule === "biasTable" ? { grid } : {}), ...(rule === "window" ? { window: d.whole(1, 9) } : {}),
    ...(rule === "groups" ? { groups: { size: groupSize, wrap: d.pick("split" as const, "roll" as const) } } : {}),
    ...(rule === "boundaries" ? { boundaries: [0, ...[d.whole(0, keys), d.whole(0, keys)].sort((a, b) => a - b), keys] } : {}),
    ...(rule === "dropout" ? { dropout: dropping(d, batch) } : {}),
  };
  return {
    operands: { q: d.floats([batch, queries, h * width]), k: d.floats([batch, keys, kvHeads * width]), v: d.floats([batch, keys, kvHeads * width]), ...mask, ...bias },
    call: ({ q, k, v, keyMask, biasTable }) => ops.attention({ q, k, v, keyMask, biasTable, ...options }),
    options,
  };
}

/** Codes on a grid and vectors close to one of them, so that rounding does not change which is nearest. */
function codes(d: Draw): Call {
  const width = d.size(1), count = d.whole(1, 40), leading = d.shape(0, 3);
  const codebook = { shape: [count, width], data: Float64Array.from({ length: count * width }, (_, i) => ((Math.floor(i / width) * 7 + (i % width) * 3) % 41) / 4 + (i % width === 0 ? Math.floor(i / width) : 0)) };
  const which = d.ids(leading, 0, count - 1).data as Int32Array, near = d.floats([which.length, width], "normal", 1 / 64).data as Float64Array;
  const z = { shape: [...leading, width], data: near.map((x, i) => x + codebook.data[which[Math.floor(i / width)] * width + (i % width)]) };
  return { operands: { z, codebook }, call: ({ z, codebook }) => ops.nearestCode(z, codebook) };
}

export const table: Record<string, Row> = {
  gelu: unary(ops.gelu), quickGelu: unary(ops.quickGelu), silu: unary(ops.silu), relu: unary(ops.relu, "far"), tanh: inOutput(ops.tanh), sigmoid: inOutput(ops.sigmoid),
  sin: unary(ops.sin), cos: unary(ops.cos), exp: unary(ops.exp), log: unary(ops.log, "positive"), sqrt: unary(ops.sqrt, "positive"), abs: unary(ops.abs, "far"), neg: unary(ops.neg),
  zeroGradient: { ...unary(ops.zeroGradient), constant: true }, detach: { ...unary(ops.detach), constant: true },
  softmax: { draw: (d) => ({ operands: { x: d.floats(d.shape(1, 6, 1), "normal", 3) }, call: ({ x }) => ops.softmax(x) }), bf16: 2 ** -5 },
  logSoftmax: { draw: (d) => ({ operands: { x: d.floats(d.shape(1, 6, 1), "normal", 3) }, call: ({ x }) => ops.logSoftmax(x) }), floor: 1, bf16: 2 ** -4 },
  swiglu: { draw(d) { const shape = d.shape(); return { operands: { gate: d.floats(shape), up: d.floats(shape) }, call: ({ gate, up }) => ops.swiglu(gate, up) }; } },

  add: binary(ops.add), sub: binary(ops.sub), mul: binary(ops.mul), div: binary(ops.div, ["normal", "far"], { bf16: 2 ** -4 }),
  eq: comparison(ops.eq), ne: comparison(ops.ne), lt: comparison(ops.lt), le: comparison(ops.le), gt: comparison(ops.gt), ge: comparison(ops.ge),
  where: {
    draw(d) {
      const [a, b] = d.broadcasting(), whole = Array.from({ length: Math.max(a.length, b.length) }, (_, i, rank = Math.max(a.length, b.length)) => {
        const [left, right] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
        return left === 1 ? right : left;
      });
      return { operands: { mask: d.mask(d.pick(whole, whole.slice(1), [1])), a: d.floats(a), b: d.floats(b) }, call: ({ mask, a, b }) => ops.where(mask, a, b) };
    },
    floor: 1,
  },
  scale: { draw(d) { const factor = d.pick(0, -2.5, 1e-3, 7); return { operands: { x: d.floats(d.shape()) }, call: ({ x }) => ops.scale(x, factor), options: factor }; } },
  clamp: { draw(d) { const [low, high] = d.pick([-1.003, 1.003], [-Infinity, 0.503], [0.1003, Infinity]); return { operands: { x: d.floats(d.shape()) }, call: ({ x }) => ops.clamp(x, low, high), options: [low, high] }; } },
  pow: { draw(d) { const exponent = d.pick(2, -1, 0.5, 3, 0); return { operands: { x: d.floats(d.shape(), "positive") }, call: ({ x }) => ops.pow(x, exponent), options: exponent }; } },
  cast: {
    draw(d) { const to = d.pick("f32" as const, "i32" as const, "u8" as const); return { operands: { x: d.floats(d.shape(), to === "f32" ? "normal" : "positive") }, call: ({ x }) => ops.cast(x, to), options: to }; },
    constant: true,
  },
  toPrecision: { draw: (d) => ({ operands: { x: d.floats(d.shape()) }, call: ({ x }) => ops.toPrecision(x, "f32") }), constant: true },
  widen: { draw: (d) => ({ operands: { x: d.floats(d.shape()) }, call: ({ x }) => ops.widen(x) }), constant: true },
  sumTo: {
    draw(d) {
      const shape = d.shape(), target = shape.slice(d.whole(0, shape.length)).map((size) => (d.pick(true, false) ? 1 : size));
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.sumTo(x, target), options: target };
    },
    floor: 1,
  },
  expandTo: {
    draw(d) {
      const target = d.shape(), shape = target.slice(d.whole(0, target.length)).map((size) => (d.pick(true, false) ? 1 : size));
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.expandTo(x, target), options: target };
    },
    floor: 1,
  },

  attention: { draw: attention, f32: ["biasTable"], floor: 1e-2, tolerance: 6e-6, bf16: 2 ** -4 },
  rope: {
    draw(d) {
      const [batch, tokens, heads, half] = [d.whole(0, 3), d.size(), d.whole(1, 3), d.small ? d.whole(1, 2) : d.size(1)];
      return {
        operands: { x: d.floats([batch, tokens, 2 * half * heads]), positions: d.ids([batch, tokens], 0, 900), invFreq: { shape: [half], data: Float64Array.from({ length: half }, (_, i) => 2 ** -i) } },
        call: ({ x, positions, invFreq }) => ops.rope(x, positions, invFreq, { heads }), options: { heads },
      };
    },
    constant: ["invFreq"], f32: ["invFreq"], tolerance: 2e-4, // angles up to 900 are rounded to f32
  },
  dropout: { draw(d) { const shape = d.shape(1), o = dropping(d, shape[0]); return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.dropout(x, o), options: o.p }; } },
  dropPath: { draw(d) { const shape = d.shape(1), o = dropping(d, shape[0]); return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.dropPath(x, o), options: o.p }; } },

  gatherRows: {
    draw(d) {
      const [rows, columns] = d.shape(2, 2, 1);
      return { operands: { x: d.floats([rows, columns]), index: d.ids(d.shape(0, 2), 0, rows - 1) }, call: ({ x, index }) => ops.gatherRows(x, index) };
    },
    floor: 1,
  },
  scatterAdd: {
    draw(d) {
      const leading = d.shape(0, 2), rows = d.size(1), source = [...leading, d.small ? d.size() : d.whole(0, 40)];
      return { operands: { source: d.floats(source), index: d.ids(leading, 0, rows - 1) }, call: ({ source, index }) => ops.scatterAdd(source, index, rows), options: rows };
    },
    floor: 1,
  },
  indexSelect: {
    draw(d) {
      const shape = d.shape(1, 6, 1), axis = d.whole(0, shape.length - 1);
      return { operands: { x: d.floats(shape), index: d.ids([d.whole(0, d.small ? 4 : 20)], 0, shape[axis] - 1) }, call: ({ x, index }) => ops.indexSelect(x, axis, index), options: axis };
    },
    floor: 1,
  },
  maskRows: {
    draw(d) {
      const shape = d.shape(1, 4, 1), leading = shape.slice(0, -1);
      return { operands: { x: d.floats(shape), mask: d.mask(leading), token: d.floats(shape.slice(-1)) }, call: ({ x, mask, token }) => ops.maskRows(x, mask, token) };
    },
    floor: 1, f32: ["token"],
  },
  patchify: {
    draw(d) {
      const patch = d.whole(1, d.small ? 2 : 17), [rows, columns] = d.small ? [1, 2] : [d.whole(1, 3), d.whole(0, 3)];
      return { operands: { x: d.floats([d.whole(0, 2), d.whole(1, 3), patch * rows, patch * columns]) }, call: ({ x }) => ops.patchify(x, patch), options: patch };
    },
  },
  resize: {
    draw(d) {
      const shape = [...d.shape(0, d.small ? 1 : 2), d.small ? d.size(1) : d.whole(1, 33), d.small ? d.size(1) : d.whole(1, 33)];
      const o = { height: d.whole(1, d.small ? 4 : 70), width: d.whole(1, d.small ? 4 : 70), mode: d.pick("bilinear" as const, "bicubic" as const) };
      if (sizeOf(shape) > 20_000) shape[0] = 1;
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.resize(x, o), options: o };
    },
    tolerance: 1e-5, floor: 1, // weights come from coordinates in f32
  },

  linear: {
    draw(d) {
      const shape = d.shape(1, 4, 1), input = shape[shape.length - 1], output = d.size(1), bias: Operands = d.pick(true, false) ? { bias: d.floats([output]) } : {};
      return { operands: { x: d.floats(shape), weight: d.floats([output, input]), ...bias }, call: ({ x, weight, bias }) => ops.linear(x, weight, bias) };
    },
    floor: 1, f32: ["weight", "bias"],
  },
  matmul: {
    draw(d) {
      const [m, n, k] = [d.size(), d.size(), d.size()], o = { transA: d.pick(true, false), transB: d.pick(true, false) };
      return { operands: { a: d.floats(o.transA ? [k, m] : [m, k]), b: d.floats(o.transB ? [n, k] : [k, n]) }, call: ({ a, b }) => ops.matmul(a, b, o), options: o };
    },
    floor: 1,
  },
  layerNorm: { draw: (d) => ({ operands: { ...affine(d) }, call: ({ x, weight, bias }) => ops.layerNorm(x, weight, bias, { eps: 1e-2 }) }), f32: ["weight", "bias"], floor: 1, tolerance: 1e-5, bf16: 2 ** -4 },
  rmsNorm: { draw(d) { const { x, weight } = affine(d); return { operands: { x, weight }, call: ({ x, weight }) => ops.rmsNorm(x, weight, { eps: 1e-2 }) }; }, f32: ["weight"], floor: 1, tolerance: 1e-5, bf16: 2 ** -4 },
  l2Normalize: { draw: (d) => ({ operands: { x: d.floats(d.shape(1, 6, 1), "far") }, call: ({ x }) => ops.l2Normalize(x) }), bf16: 2 ** -4 },

  sum: total(ops.sum, 0), mean: total(ops.mean, 1),
  max: along(ops.max, 1, "normal", { floor: 1 }), argmax: along(ops.argmax, 1, "normal", { constant: true }),
  logSumExp: along(ops.logSumExp, 0, "normal", { bf16: 2 ** -4 }), l2Norm: along(ops.l2Norm, 0, "far", { bf16: 2 ** -4 }),
  runningSum: { draw: (d) => ({ operands: { x: d.floats(d.shape(2, 2)) }, call: ({ x }) => ops.runningSum(x) }), bf16: 2 ** -4 },
  maskedMean: {
    draw(d) { const shape = d.shape(3, 3); return { operands: { x: d.floats(shape), mask: d.mask(shape.slice(0, 2)) }, call: ({ x, mask }) => ops.maskedMean(x, mask) }; },
    floor: 1e-1,
  },
  topK: {
    draw(d) {
      const shape = d.shape(1, 6, 1), k = d.whole(1, shape[shape.length - 1]);
      return { operands: { x: d.floats(shape) }, call: ({ x }) => { const { values, indices } = ops.topK(x, k); return [values, indices]; }, options: k };
    },
  },
  nearestCode: { draw: codes, constant: true },

  reshape: {
    draw(d) {
      const shape = d.shape(), other = d.pick([sizeOf(shape)], shape.length < 6 ? [...shape, 1] : shape, [...shape].reverse());
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.reshape(x, other), options: other };
    },
  },
  slice: {
    draw(d) {
      const shape = d.shape(1), axis = d.whole(-shape.length, shape.length - 1), size = shape.at(axis)!, start = d.whole(0, size), length = d.whole(0, size - start);
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.slice(x, axis, start, length), options: [axis, start, length] };
    },
  },
  split: {
    draw(d) {
      const shape = d.shape(1), axis = d.whole(-shape.length, shape.length - 1), size = shape.at(axis)!, cut = d.whole(0, size), sizes = d.pick([size], [cut, size - cut], [0, cut, size - cut]);
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.split(x, axis, sizes), options: [axis, sizes] };
    },
  },
  concat: {
    draw(d) {
      const shape = d.shape(1, 6), axis = d.whole(-shape.length, shape.length - 1), along = (axis + shape.length) % shape.length, count = d.whole(1, d.small ? 3 : 10);
      const parts = Object.fromEntries(Array.from({ length: count }, (_, i) => [`part ${i}`, d.floats(shape.map((size, at) => (at === along ? d.whole(0, 3) : Math.min(size, d.small ? 4 : 40))))]));
      return { operands: parts, call: (operands) => ops.concat(Object.values(operands), axis), options: axis };
    },
  },
  pad: {
    draw(d) {
      const shape = d.shape(1), axis = d.whole(-shape.length, shape.length - 1), [before, after] = [d.whole(0, 5), d.whole(0, 5)];
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.pad(x, axis, before, after), options: [axis, before, after] };
    },
  },
  permute: {
    draw(d) {
      const shape = d.shape(), order = [...shape.keys()];
      for (let i = order.length - 1; i > 0; i--) { const j = d.whole(0, i); [order[i], order[j]] = [order[j], order[i]]; }
      return { operands: { x: d.floats(shape) }, call: ({ x }) => ops.permute(x, order), options: order };
    },
  },

  crossEntropy: {
    draw(d) {
      const shape = d.shape(1, 3, 1), o = { weight: d.pick(1, 0.25), smoothing: d.pick(0, 0.1) };
      return { operands: { logits: d.floats(shape, "normal", 2), labels: d.labels(shape.slice(0, -1), shape[shape.length - 1]) }, call: ({ logits, labels }) => ops.crossEntropy(logits, labels, o), options: o };
    },
    floor: 1e-2, bf16: 2 ** -5,
  },
  locationCrossEntropy: {
    draw(d) {
      const [first, bins, after] = [d.whole(0, 3), d.whole(1, d.small ? 3 : 66), d.whole(0, 3)], rows = d.whole(0, d.small ? 4 : 40), o = { first, bins, sigma: d.pick(0.5, 2), weight: 0.5 };
      const labels = d.labels([rows], bins);
      labels.data = Int32Array.from(labels.data as Int32Array, (label) => (label === -100 ? label : label + first));
      return { operands: { logits: d.floats([rows, first + bins + after], "normal", 2), labels }, call: ({ logits, labels }) => ops.locationCrossEntropy(logits, labels, o), options: o };
    },
    floor: 1e-2, bf16: 2 ** -5,
  },
  binaryCrossEntropy: {
    draw(d) {
      const shape = d.shape(0, 3), weight = d.pick(1, 0.25);
      return { operands: { logits: d.floats(shape, "normal", 2), labels: d.labels(shape, 2) }, call: ({ logits, labels }) => ops.binaryCrossEntropy(logits, labels, { weight }), options: weight };
    },
    floor: 1e-2,
  },
  linearCrossEntropy: {
    draw(d) {
      const [rows, width, classes] = [d.whole(0, d.small ? 3 : 40), d.small ? d.size(1) : d.whole(1, 33), d.small ? d.size(1) : d.size(1)], bias: Operands = d.pick(true, false) ? { bias: d.floats([classes]) } : {};
      const o = { weight: 0.5, smoothing: d.pick(0, 0.1), chunkRows: d.pick(1, 7, 16, 256) };
      return { operands: { x: d.floats([rows, width], "normal", 0.3), weight: d.floats([classes, width]), ...bias, labels: d.labels([rows], classes) }, call: ({ x, weight, bias, labels }) => ops.linearCrossEntropy(x, weight, bias, labels, o), options: o };
    },
    floor: 1, f32: ["weight", "bias"], bf16: 2 ** -4,
  },
  infoNce: {
    draw(d) {
      const [count, more, width] = [d.whole(0, d.small ? 3 : 33), d.whole(0, 3), d.small ? d.size(1) : d.whole(1, 40)], symmetric = d.pick(true, false), o = symmetric ? { symmetric, temperature: 0.5 } : { offset: d.whole(0, more), temperature: 0.5 };
      return { operands: { queries: d.floats([count, width], "far"), keys: d.floats([count + (symmetric ? 0 : more), width], "far") }, call: ({ queries, keys }) => ops.infoNce(queries, keys, o), options: o };
    },
    floor: 1, bf16: 2 ** -3,
  },
  cosineLoss: pairLoss(ops.cosineLoss, (d) => twoAlike(d, "far")), squaredError: pairLoss(ops.squaredError, twoAlike), absoluteError: pairLoss(ops.absoluteError, (d) => {
    const [pred, target] = twoAlike(d);
    return [pred, { shape: target.shape, data: Float64Array.from(target.data as Float64Array, (x, i) => (Math.abs(x - (pred.data[i] as number)) < 0.01 ? x + 1 : x)) }];
  }),
  klDivergence: pairLoss(ops.klDivergence, twoAlike, { bf16: 2 ** -5 }), boxL1: pairLoss(ops.boxL1, boxes), boxGiou: pairLoss(ops.boxGiou, boxes, { tolerance: 1e-5 }),
};

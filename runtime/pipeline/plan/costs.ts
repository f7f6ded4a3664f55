/**
 * What a component costs per page: floating-point operations of one forward, and numbers kept for the way back. By `use`, like the
 * families of checkpoints: the plugins themselves stay as short as they are; a plugin without a row has no cost here.
 *
 * CO-1: a product of (n, i) and (i, o) counts 2 n i o; attention counts 4 n k w (scores and sums), half of it where it is causal, and no more than a window w sees: n w - w²/2 pairs.
 *       Norms, activations, softmax and gathers are left out: they are less than 3 % at the smallest width.
 * CO-2: the way back costs twice the way forward where something learns, nothing where it is frozen.
 * CO-3: numbers kept are those of an eager step, counted on the engine for each kind of layer; per layer they are exact but for terms
 *       that do not grow with the page.
 */

/**
 * Per page: T text tokens, M of the memory, Q of the prompt, A of question and answer; masked tokens Nm, cells Np, answered positions Na. B: pages beside
 * each other, for objectives that compare them.
 */
export type PageSizes = Readonly<Partial<Record<"B" | "T" | "M" | "Q" | "A" | "Nm" | "Np" | "Na", number>>>;

export interface Cost {
  /** Of one forward over one page. */
  flops: number;
  /** How they were counted. */
  formula: string;
  /** Numbers kept for the way back; of a frozen component, numbers it makes. */
  kept: number;
  /** Of it, what its layers keep: so many of them, each with its input and what it keeps besides. */
  layers?: { count: number; input: number; inside: number };
}

/** Undefined for a plugin without a row, and where a size it needs is not known. */
export function costOf(use: string, options: unknown, sizes: PageSizes): Cost | undefined {
  const row = Object.hasOwn(rows, use) ? rows[use] : undefined;
  const cost = row?.(options as Options, sizes);
  return cost && Number.isFinite(cost.flops) && Number.isFinite(cost.kept) ? cost : undefined;
}

/** Of one page, from the sizes of a microbatch: B pages, masked tokens and answers of all of them together. */
export function pageSizes({ B = 1, ...rest }: Readonly<Record<string, number>>): PageSizes {
  const perPage = (name: string): number | undefined => (rest[name] === undefined ? undefined : rest[name] / B);
  return { B, T: rest.T, M: rest.M, Q: rest.Q, A: rest.A, Nm: perPage("Nm"), Np: perPage("Np"), Na: perPage("Na") };
}

type Options = Readonly<Record<string, number>> & { readonly train?: boolean; readonly source?: string; readonly text?: Readonly<Record<string, number>>; readonly cls_pt?: { early_layers: number; head_layers: number }; readonly modalities?: string };

const square = (x: number): number => x * x;
const product = (n: number, i: number, o: number): number => 2 * n * i * o;
/** A size that nobody said makes the whole sum unknown. */
const known = (size: number | undefined): number => size ?? NaN;

/** A ViT or multiway layer of n tokens: 12 d² of weights per token. */
const block = (n: number, d: number): number => 2 * n * 12 * d * d + 4 * n * n * d;
/** `pairs` of a query and a key that it sees. */
const llamaLayer = (n: number, o: Options, head: number, pairs: number): number =>
  2 * n * (o.width * head * (2 * o.heads + 2 * o.kv_heads) + 3 * o.width * o.hidden) + 4 * pairs * o.heads * head;
const causalPairs = (n: number, window?: number): number => (window && window < n ? n * window - square(window) / 2 : square(n) / 2);
const llamaKept = (n: number, o: Options, head: number): LayerKept =>
  ({ count: o.layers, input: n * o.width, all: n * (6 * o.width + 3 * head * (o.heads + o.kv_heads) + 3 * o.hidden + o.heads + 2) });

/** Layers that each keep `all`, their `input` among it. */
interface LayerKept { count: number; input: number; all: number }
const keeping = (besides: number, { count, input, all }: LayerKept): Pick<Cost, "kept" | "layers"> =>
  ({ kept: besides + count * all, layers: { count, input, inside: all - input } });

const rows: Readonly<Record<string, (o: Options, s: PageSizes) => Cost>> = {
  "image-encoder/beit"(o) {
    const patches = square(o.image / o.patch), n = 1 + patches, d = o.width, pixels = 3 * o.patch * o.patch;
    const layers = o.layers + (o.cls_pt?.head_layers ?? 0);
    return {
      flops: product(patches, pixels, d) + layers * block(n, d),
      formula: "2 P 3p² d + L (24 N d² + 4 N² d), N = 1 + P",
      ...keeping(patches * pixels + 3 * n * d, { count: layers, input: n * d, all: n * (23 * d + o.heads + 4) }),
    };
  },
  "text-encoder/llama"(o, { T }) {
    const n = known(T);
    return {
      flops: o.layers * llamaLayer(n, o, o.head_dim, square(n)),
      formula: "L (2 T (d k (2H + 2KV) + 3 d f) + 4 T² H k)",
      ...keeping(2 * n * o.width, llamaKept(n, o, o.head_dim)),
    };
  },
  "position/fourier"(o, { T }) {
    const n = known(T) + 1 + square(o.grid), corners = 2;
    return {
      flops: corners * (product(n, 2, o.features / 2) + product(n, o.features, o.hidden) + product(n, o.hidden, o.width / corners)),
      formula: "2 (T + 1 + cells) (2 F + 2 F h + h d)",
      kept: n * (7 * o.features + 4 * o.hidden + 2 * o.width),
    };
  },
  "fusion/multiway"(o, s) {
    const { cells, words, flops } = sequence(o, s), n = cells + words, d = o.width;
    return {
      flops: flops + o.layers * block(n, d),
      formula: "2 (1 + cells) m² dv d + 2 T dt d + L (24 M d² + 4 M² d), M = 1 + cells + T",
      ...keeping(n * (5 * d + (o.merge > 1 ? o.image_width : 0) - 2 * d * o.vision_language_layers), { count: o.layers, input: n * d, all: n * (25 * d + o.heads + 4) }),
    };
  },
  "fusion/co-attention"(o, s) {
    const { cells, words, flops } = sequence(o, s), n = cells + words, d = o.width;
    return {
      flops: flops + o.layers * (24 * n * d * d + 8 * cells * words * d),
      formula: "2 (1 + cells) m² dv d + 2 T dt d + L (24 M d² + 8 (1 + cells) T d), M = 1 + cells + T",
      ...keeping(8 * n * d, { count: o.layers, input: n * d, all: n * (21 * d + o.heads + 6) }),
    };
  },
  "fusion/concatenation"(o, s) {
    const { cells, words, flops } = sequence(o, s);
    return { flops, formula: "2 (1 + cells) m² dv d + 2 T dt d", kept: 5 * (cells + words) * o.width };
  },
  "prompt-encoder/bert"(o, { Q }) {
    const n = known(Q), d = o.width;
    return {
      flops: o.layers * (2 * n * (4 * d * d + 2 * d * o.hidden) + 4 * n * n * d) + product(1, d, o.memory_width),
      formula: "L (2 Q (4 d² + 2 d f) + 4 Q² d) + 2 d dm",
      ...keeping(5 * n * d, { count: o.layers, input: n * d, all: n * (10 * d + 2 * o.hidden + o.heads + 4) }),
    };
  },
  "decoder/llama"(o, { M, A }) {
    const memory = known(M), n = memory + known(A), head = o.head_dim ?? o.width / o.heads;
    return {
      flops: product(memory, o.memory_width, o.width) + o.layers * llamaLayer(n, o, head, causalPairs(n, o.window)),
      formula: `2 M dm d + L (2 N (d k (2H + 2KV) + 3 d f) + ${o.window && o.window < n ? "(4 N w - 2 w²)" : "2 N²"} H k), N = M + A`,
      ...keeping(memory * o.memory_width + 2 * (n + known(A)) * o.width, llamaKept(n, o, head)),
    };
  },
  "objective/mlm"(o, { Nm }) {
    const n = known(Nm);
    return { flops: product(n, o.width, o.text_width) + product(n, o.text_width, o.vocabulary), formula: "2 Nm (dm dt + dt V)", kept: n * (o.vocabulary + 6 * o.width + 3 * o.text_width) };
  },
  "objective/mim-codes"(o, { Np }) {
    const n = known(Np), codes = o.merge * o.merge * o.codes;
    return { flops: product(n, o.width, codes), formula: "2 Np d m² K", kept: n * (codes + 4 * o.width) };
  },
  "objective/mim-teacher"(o, { Np }) {
    const n = known(Np), targets = o.merge * o.merge * o.targets;
    return { flops: product(n, o.width, targets), formula: "2 Np d m² T", kept: n * (4 * targets + 4 * o.width) };
  },
  "objective/wpa"(o, { T }) {
    const n = known(T);
    return { flops: product(n, o.width, o.width) + product(n, o.width, 1), formula: "2 T (d² + d)", kept: 3 * n * o.width };
  },
  "objective/answer"(o, { Na }) {
    const n = known(Na);
    return { flops: product(n, o.width, o.vocabulary), formula: "2 Na d V", kept: n * (o.vocabulary + 2 * o.width) };
  },
  "visual-tokenizer/vq-kd"(o) {
    const patches = square(o.image / o.patch), n = 1 + patches, d = o.width, pixels = 3 * o.patch * o.patch;
    const encode = product(patches, pixels, d) + o.layers * block(n, d) + product(patches, d, d) + product(patches, d, o.dim) + product(patches, o.dim, o.codes);
    const decode = product(patches, o.dim, d) + o.decoder_layers * block(n, d) + product(patches, d, d) + product(patches, d, o.targets);
    const layers = o.layers + (o.train ? o.decoder_layers : 0);
    return {
      flops: encode + (o.train ? decode : 0),
      formula: `2 P (3p² d + d² + d D + D K) + L (24 N d² + 4 N² d)${o.train ? " + 2 P (D d + d² + d T) + Ld (24 N d² + 4 N² d)" : ""}`,
      ...keeping(6 * patches * pixels + (o.train ? 16 : 8) * n * d, { count: layers, input: n * d, all: n * (21 * d + o.heads + 4) }),
    };
  },
  "objective/causal-lm"(o, { T }) {
    const n = known(T) - 1; // the first token has none before it
    return { flops: product(n, o.width, o.vocabulary), formula: "2 (T - 1) d V", kept: n * (o.width + 2) };
  },
  "objective/mntp"(o, { Nm }) {
    const n = known(Nm);
    return { flops: product(n, o.width, o.vocabulary), formula: "2 Nm d V", kept: n * (o.vocabulary + o.width) };
  },
  "objective/simcse"(o, { B }) {
    const n = known(B); // every text against all others
    return { flops: 2 * product(1, o.width, n), formula: "4 B d", kept: 4 * (o.width + n) };
  },
  "objective/contrastive"(o, s) {
    const n = known(s.B), ofMemory = o.source === "memory", words = ofMemory ? known(s.T) : 0;
    return {
      flops: 2 * product(1, o.width, n) + (ofMemory ? 2 * product(1, o.width, o.width) : 0),
      formula: ofMemory ? "4 B d + 4 d²" : "4 B d",
      kept: 2 * o.width + 4.5 * n + (ofMemory ? (words + 4) * o.width : 0),
    };
  },
  "objective/vq-kd"(o) {
    return { flops: 0, formula: "no products: the likeness of vectors is left out, as norms are", kept: 2 * (o.patches + o.codes) };
  },
  "teacher/stub-clip": clip,
  "teacher/clip": clip,
  "teacher/mini-clip"(o, { T }) {
    const image = clip(o), { text } = o;
    if (!o.train || !text) return image;
    const n = Math.min(known(T), text.context), d = text.width;
    const words = text.layers * (2 * n * 12 * d * d + 2 * n * n * d) + product(1, d, o.targets);
    return {
      flops: image.flops + words, formula: `${image.formula} + Lt (24 T dt² + 2 T² dt) + 2 dt Tw`,
      kept: image.kept + 4 * n * d + text.layers * n * (21 * d + text.heads + 4),
    };
  },
};

/** What every fusion begins with: both modalities, or the one there is, projected to the width of the memory. */
function sequence(o: Options, { T }: PageSizes): { cells: number; words: number; flops: number } {
  const cells = o.modalities === "text" ? 0 : 1 + square(o.grid), words = o.modalities === "image" ? 0 : known(T);
  return { cells, words, flops: product(cells, o.merge * o.merge * o.image_width, o.width) + product(words, o.text_width, o.width) };
}

/** The vision tower. */
function clip(o: Options): Cost {
  const patches = square(o.image / o.patch), n = 1 + patches, d = o.width, pixels = 3 * o.patch * o.patch;
  return {
    flops: product(patches, pixels, d) + o.layers * block(n, d) + product(patches, d, o.targets),
    formula: "2 P 3p² d + L (24 N d² + 4 N² d) + 2 P d T",
    kept: 6 * patches * pixels + 7 * n * d + o.layers * n * (21 * d + o.heads + 4),
  };
}

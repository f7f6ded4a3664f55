/**
 * What a model is composed of: fifteen kinds of plugin, in the order of the data, and what `create` of each returns.
 *
 * K-1: a component knows nothing of processes, microbatch schedules or layouts; it maps tensors to tensors.
 * K-2: a component only uses what it is given: inputs, the forward context, its options, its host. No globals, no clock, no environment.
 * K-3: parameter names are complete (`vision.blocks.0.attn.qkv.weight`), unique over the recipe, and are the names in a checkpoint.
 * K-4: a data loader is a pure function of (seed, step): every layout, resume and study arm sees the same pages in the same order.
 */
import type { FailureData } from "../errors.ts";
import type { Members, Parameter, Parameters, TokenShare } from "../nn/index.ts";
import type { HostTensor, Precision, Tensor } from "../tensor/index.ts";
export type { HostTensor };

export const kinds = [
  "data-loader", "tokenizer", "teacher", "visual-tokenizer", "image-encoder", "text-encoder", "position", "fusion",
  "prompt-encoder", "decoder", "objective", "optimizer", "evaluator", "task", "tracker",
] as const;
export type Kind = (typeof kinds)[number];

/** The kinds whose components take part in the graph: the loader gives tensors, the others map them. */
export const tensorKinds = [
  "teacher", "visual-tokenizer", "image-encoder", "text-encoder", "position", "fusion", "prompt-encoder", "decoder", "objective",
] as const satisfies readonly Kind[];
export type TensorKind = (typeof tensorKinds)[number];

/** What `create` returns, per kind. */
export interface Components extends Record<TensorKind, TensorComponent> {
  "data-loader": DataLoader;
  tokenizer: Tokenizer;
  decoder: GenerativeDecoder;
  optimizer: OptimizerComponent;
  evaluator: Evaluator;
  task: Task;
  tracker: Tracker;
}

// ---------------------------------------------------------------------------------------------------------------- tensors

/** What every forward is told beside its tensors. `counts` are those of the whole batch, not of the microbatch (losses divide by them). */
export interface ForwardContext {
  training: boolean;
  step: number;
  seed: number;
  counts: Record<string, number>;
  /** One per row of the batch dimension; randomness is keyed by them, so that it does not depend on microbatching. */
  sampleIds: readonly number[];
  /** `step` and `sampleIds` as tensors, i64 (1) and i32 (B), where a step is to be replayed with others: what draws gives them to its ops. */
  keys?: { step: Tensor; sampleIds: Tensor };
  /**
   * What activations are stored in. A component brings what enters from outside (pixels, embeddings, features of boxes) to it with
   * `toPrecision(x, context.precision)`; everything after that follows its input.
   */
  precision: Precision;
  /** Blocks of stacks remember their inputs only and run again on the way back: `nn.throughBlock`. */
  recompute?: boolean;
  /** Those that hold the same component and share out its work with this process (`nn.vocabularyHead`). */
  members?: Members;
  /** Those that hold the same component and share out the tokens of a sequence with this process (`nn.overTokens`). */
  tokens?: TokenShare;
  /**
   * While training: hands over a tensor that the component's `afterStep` wants summed over the whole batch (how often each code was
   * used). Sums of microbatches are added in the order of gradients, so they are the same bits in every layout.
   */
  addUp?(name: string, value: Tensor): void;
}

/**
 * A mapping from tensors to tensors. `forward` gets one tensor per connected input port and gives one per output port.
 * An objective gives `loss`, shape (1), already divided by the whole batch's count (count 0: loss 0), and may give scalar metrics.
 */
export interface TensorComponent {
  parameters(): Parameters;
  forward(inputs: Record<string, Tensor>, context: ForwardContext): Record<string, Tensor>;
  /** No gradient enters, no parameter moves (teachers). */
  frozen?: boolean;
  /**
   * A change of state that no gradient makes (the moving averages of a codebook, the limit of a scale). Called after the optimizer's
   * part of every step, with the sums over the whole batch of what `forward` gave to `context.addUp`; writes into parameters in place.
   */
  afterStep?(sums: Record<string, Tensor>): void;
  /**
   * Of an objective that chooses among classes: the classes it asks for, i32 (K), -100 where it asks nothing. An evaluation counts them:
   * beside a metric `accuracy` it says what always naming the most frequent class of the training pages would have reached.
   */
  targets?(inputs: Record<string, Tensor>): Tensor;
  /** Of an objective with a box head: hidden (K, D) at `<box>` tokens -> boxes (K, 4), (cx, cy, w, h) in [0, 1]. Generation reads its boxes with it. */
  boxes?(hidden: Tensor): Tensor;
  /** What an evaluation can say beyond means: laid over them by name. `means`: of loss and metrics; `uses`: how often each class was asked for. */
  judge?(held: { means: Readonly<Record<string, number>>; uses: ReadonlyMap<number, number> }): Record<string, number>;
}

/** Opaque to everybody but the decoder that made it (prefix states, key/value caches). */
export type DecoderState = unknown;

/** A decoder also generates: the prefix is computed once, then one step per new token. */
export interface GenerativeDecoder extends TensorComponent {
  begin(inputs: Record<string, Tensor>, context: ForwardContext): DecoderState;
  /** ids (B, A) of the new tokens -> logits (B, V) of the last position. */
  next(state: DecoderState, ids: Int32Array): Tensor;
  /**
   * A state of its own whose row i goes on where row `rows[i]` of `state` stands: any number of rows, in any order, repeated as wanted
   * (beams that change places, several answers to one page). `state` stays as it is; both are ended by the caller.
   */
  branch(state: DecoderState, rows: readonly number[]): DecoderState;
  /** (B, D): the last hidden state, for heads that read boxes from it. */
  hidden?(state: DecoderState): Tensor;
  end(state: DecoderState): void;
}

// ------------------------------------------------------------------------------------------------------------------- data

/** `[x0, y0, x1, y1]`, corners in [0, 1024], origin top left, the page stretched to the square. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];

export interface Word { text: string; box: Box; /** in [0, 1] */ conf?: number; /** index into `lines` */ line?: number }
export interface Line { text: string; box: Box; conf?: number }
/** A layout or table-structure object. */
export interface Region { label: string; box: Box; score?: number }

/** One page of one document, whatever format it came from. Words in the order of the source. */
export interface PageRecord {
  docId: string;
  /** 0-based. */
  page: number;
  /** `sroie`, `publaynet`, `pdf`, ... */
  source: string;
  /** Encoded image, when it travels with the record. */
  image?: Uint8Array;
  /** [width, height] in pixels, or in points for a PDF page. */
  origSize: readonly [width: number, height: number];
  words: Word[];
  lines: Line[];
  regions: Region[];
  meta: Record<string, unknown>;
}

export interface HostMicrobatch { tensors: Record<string, HostTensor>; sampleIds: number[]; keys: string[] }
/** One step's data. `counts` are global over the batch, known before the first forward. */
export interface HostBatch { step: number; counts: Record<string, number>; microbatches: HostMicrobatch[] }

export type Split = "train" | "held-out";

/** A page with a question about it; `answer` and `boxes` are the truth where it is known. One of the two images is given. */
export interface Example {
  key: string;
  page: PageRecord;
  imagePath?: string;
  imageBytes?: Uint8Array;
  prompt: string;
  answer?: string;
  boxes?: Box[];
}

export interface DataLoader {
  open(): Promise<void>;
  /** A pure function of (seed, step) (K-4). `batch` pages cut into `microbatches` contiguous equal parts. */
  batch(o: { step: number; seed: number; batch: number; microbatches: number }): Promise<HostBatch>;
  examples(split: Split): Promise<Example[]>;
  /** An inference batch: the same ports, the decoder's ids being `<bos> prompt <ans>`. */
  encode(examples: Example[]): Promise<HostMicrobatch>;
  /** Held-out pages, masked with the fixed seed, for held-out losses. */
  evaluationBatches(o: { seed: number; batch: number; limit?: number }): Promise<HostBatch[]>;
  readonly tokenizer: Tokenizer;
  /** Of `prompt_ids`, where it is another one. */
  readonly promptTokenizer?: Tokenizer;
  /** Files that belong to the model rather than to the data (a tokenizer), as absolute paths: checkpoints carry copies. */
  modelFiles?(): readonly string[];
  /** A page to ask about, from a file: an image with its words beside it, or a PDF. The record carries its image. */
  page?(path: string, o?: { words?: string }): Promise<PageRecord & { image: Uint8Array }>;
  /** What was left out of the data, and where it stood. */
  faults?(): readonly { file: string; member?: string; problem: string }[];
  close(): Promise<void>;
  /** Things counted so far: pages skipped, answers cut short, ... */
  stats(): Record<string, number>;
}

export const specialTokens =
  ["pad", "bos", "eos", "unk", "mask", "sep", "ans", "box", "boxEnd", "none", "item", "kv"] as const;
export type SpecialToken = (typeof specialTokens)[number];

export interface Tokenizer {
  readonly vocabulary: number;
  /** Where it was read from, if from a file. */
  readonly file?: string;
  readonly special: Record<SpecialToken, number>;
  readonly locationBins: number;
  /** Id of the first location token. */
  readonly locationBase: number;
  /** Ids that are pieces of text, as half-open ranges. Default: all behind the locations. */
  readonly textIds?: readonly (readonly [from: number, to: number])[];
  encode(text: string): number[];
  decode(ids: Iterable<number>): string;
  /** `wordIndex[i]` is the word that token i came from. */
  encodeWords(words: string[]): { ids: number[]; wordIndex: number[] };
}

/** One thing one can ask about a page, with its truth. */
export interface Question { prompt: string; answer: string; boxes: Box[]; /** the field or class asked for */ field?: string }

/** Which questions belong to a page. */
export interface Task {
  questions(page: PageRecord): Question[];
}

export interface Prediction { key: string; text: string; boxes: Box[] }
export interface Reference { key: string; prompt: string; answer: string; boxes: Box[]; field?: string }

export interface Evaluator {
  add(prediction: Prediction, reference: Reference): void;
  result(): Record<string, number>;
}

// --------------------------------------------------------------------------------------------------------------- training

/** Moves parameters; what it remembers per parameter is in the checkpoint by name. */
export interface OptimizerLike {
  /** The tensors it remembers per parameter, each of the parameter's size: plans count their bytes. */
  readonly stateNames?: readonly string[];
  step(parameter: Parameter, gradient: Tensor, o: { step: number; learningRate: number; gradScale: number }): void;
  /**
   * The same bits as `step` for each, in fewer kernel calls. numbers f64 (3): learningRate, step, gradScale, read on the device, so that
   * the call can be recorded and replayed. Without it a training step is not compiled.
   */
  stepMany?(moved: readonly (readonly [parameter: Parameter, gradient: Tensor])[], numbers: Tensor): void;
  state(parameter: Parameter): Record<string, Tensor>;
  /** What `state` gave, from a checkpoint. */
  load(parameter: Parameter, state: Record<string, ArrayLike<number>>): void;
  dispose(): void;
}

/** What an optimizer plugin makes: one rule instance per process, and the learning rate of each step. */
export interface OptimizerComponent<O extends OptimizerLike = OptimizerLike> {
  create(): O;
  /** Learning rate of step `step0` (0-based) of a run of `totalSteps`. */
  learningRate(step0: number, totalSteps: number): number;
}

/** What happens in a run, in order; `--json` prints them one per line. */
export type RunEvent =
  | { event: "start"; run: string; runFolder: string; seed: number; precision: Precision; steps: number; parameters: number; processes: { stage: string; stages?: string[]; components: string[]; pid?: number; host?: string }[] }
  | { event: "links"; links: { from: string; to: string; lane: string; notes: string[] }[] }
  | { event: "step"; step: number; loss: number; losses: Record<string, number>; lr: number; norm: number; pagesPerSecond: number; etaSeconds: number; /** The ledger: keys of the pages this step consumed, in order. */ samples: string[] }
  | { event: "phase"; phase: string; message?: string }
  | { event: "evaluation"; step: number; scores: Record<string, number>; examples?: number }
  /** Steps `from` to `to` were traced: a file for Perfetto and `octavo explain`. */
  | { event: "trace"; path: string; from: number; to: number }
  | { event: "checkpoint"; step: number; path: string }
  | { event: "warning"; message: string; details?: Record<string, unknown> }
  /** Before the end: what every process used, how long its event loop was ever held up, what its loader counted. */
  | { event: "stats"; stages: Record<string, ProcessStats> }
  | { event: "end"; reason: "finished" | "stopped"; step: number; loss?: number; seconds: number; runFolder: string; checkpoint?: string }
  | { event: "failure"; message: string; failure: FailureData; component?: string; process?: string; step?: number };

export interface ProcessStats {
  memory: { bytesInUse: number; bytesReserved: number; bytesPeak: number; tensors: number };
  /** Of a 1 ms timer since the first step: its ticks, those late by more than 50 ms, the worst delay. */
  eventLoop: { ticks: number; late: number; worstMs: number };
  loader: Record<string, number>;
  /** Steps recorded, replayed and run eagerly, where steps are compiled. */
  compiled?: { recorded: number; replayed: number; eager: number; refused: readonly string[] };
}

export interface Tracker {
  event(event: RunEvent): void;
  close(): Promise<void>;
}

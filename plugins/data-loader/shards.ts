/**
 * Pages from webdataset shards, as batches.
 *
 * L-1: `batch` is a pure function of (seed, step): order, masks and wordings come from Philox keyed by them and the draw's number.
 * L-2: `counts` are those of the whole batch, the same however it is cut into microbatches.
 * L-3: objective `joint` hides parts of a page (MLM, MIM, WPA); `answer` asks about it (prompt, decoder sequence, boxes).
 * L-4: broken data is left out, counted in `stats()` and listed in `faults()`; what was cut to fit is counted.
 * L-5: with `max_cost` a step takes as many pages as fit, and losses stay exact: they divide by the counts of the pages it took (`cost.ts`).
 */
import { z } from "zod";
import {
  definePlugin, isLocationId, port, textIds, type DataLoader, type Example, type HostBatch, type HostMicrobatch, type PageRecord, type Ports, type Question,
  type Split, type Task, type Tokenizer,
} from "../../runtime/index.ts";
import { collateAnswer, collateJoint, type AnswerRow, type JointRow } from "./collate.ts";
import { CappedSteps, cutByCost, type PageCost } from "./cost.ts";
import { readCorpus, type Corpus, type CorpusPage } from "./corpus.ts";
import { padded } from "./host-tensors.ts";
import { alignmentLabels, blockMask, corrupt, spanMask } from "./masking.ts";
import { contiguous, EpochOrder, evaluationStep, site, stream } from "./order.ts";
import { readPage } from "./page-file.ts";
import { dataError } from "./page-record.ts";
import { decodePixels } from "./pixels.ts";
import { buildTokenizer, filePatterns, tokenizerOption } from "./source-options.ts";
import { findShards, type Fault } from "./tar.ts";
import { dialogueText, lineBoxes, pageText, type DialogueText, type PageText } from "./tokens.ts";

/** `<box>`, four corners, `</box>`: the least a box takes of an answer. */
const boxTokens = 6;

const options = z.strictObject({
  /** Files of the train pages. */
  shards: filePatterns,
  held_out: filePatterns.optional(),
  /** Usable pages of each at most, in their order: to try something on a few. */
  pages: z.int().positive().optional(),
  tokenizer: tokenizerOption,
  /** Of what the prompt encoder reads, where it is another one (`tokenizer/hugging-face` with `append: false` for MiniLM's WordPiece). */
  prompt_tokenizer: tokenizerOption.optional(),
  objective: z.enum(["joint", "answer"]).default("joint"),
  task: z.strictObject({ use: z.string(), options: z.record(z.string(), z.unknown()).default({}) }).default({ use: "task/receipt-fields", options: {} }),
  /** Side of the square the model sees, and of one patch, in pixels. */
  image_size: z.int().positive().default(128),
  patch_size: z.int().positive().default(16),
  /** Patches per side of a cell, as the fusion has it: what is hidden of the image is hidden by whole cells. */
  merge: z.int().positive().default(1),
  /** Longest sequences, in tokens, specials included. `max_answer` counts prompt and answer. */
  max_text: z.int().min(8).default(320),
  max_prompt: z.int().min(8).default(64),
  max_answer: z.int().min(8).default(96),
  /** Shares hidden in joint pre-training. */
  mask_text: z.number().min(0).max(1).default(0.3),
  mask_image: z.number().min(0).max(1).default(0.4),
  /** Words are hidden whole. */
  whole_word: z.boolean().default(false),
  /** Of word-patch alignment. `strict`: words that are hidden in part are not asked about; `level: segment`: a word stands where its line does. */
  wpa: z.strictObject({ strict: z.boolean().default(false), level: z.enum(["word", "segment"]).default("word") }).prefault({}),
  /** false: the decoder reads no instruction, what is asked reaches it through the prompt encoder alone. */
  prompt_in_decoder: z.boolean().default(true),
  /** false: answers are text alone. */
  boxes: z.boolean().default(true),
  /**
   * Most that a microbatch may cost: its pages times (patches + longest text, of questions also prompt and answer). A step then takes as
   * many of the next pages as fit, at most `batch`, cut into microbatches by cost. Absent: `batch` pages, as many in every microbatch.
   * A plan reckons with batch / microbatches pages of full length: a larger `max_cost` than these can need more memory than it says.
   */
  max_cost: z.int().positive().optional(),
}).refine((o) => o.image_size % o.patch_size === 0, { message: "image_size must be a multiple of patch_size", path: ["image_size"] })
  .refine((o) => (o.image_size / o.patch_size) % o.merge === 0, { message: "merge must divide the patches per side, image_size / patch_size", path: ["merge"] })
  .refine((o) => o.max_cost === undefined || o.max_cost >= largestPage(o), { message: "max_cost must hold the largest page: patches + max_text (of questions + max_prompt + max_answer), rounded up to multiples of 8", path: ["max_cost"] });

/** What one page can cost at most. */
const largestPage = (o: { image_size: number; patch_size: number; objective: string; max_text: number; max_prompt: number; max_answer: number }): number =>
  (o.image_size / o.patch_size) ** 2 + padded([o.max_text]) + (o.objective === "joint" ? 0 : padded([o.max_prompt]) + padded([o.max_answer]));

type Options = z.output<typeof options>;

export const shards = definePlugin({
  kind: "data-loader", name: "shards", version: "1.0.0",
  about: "Pages from webdataset tars, masked for joint pre-training or asked for fine-tuning.",
  options,
  ports: portsOf,
  counts: (o) => (o.objective === "joint" ? ["pages", "mlm_tokens", "mim_patches", "wpa_tokens"] : ["pages", "answer_text_tokens", "answer_loc_tokens", "boxes"]),
  maxDims: (o, { B = 1 }) => {
    const P = (o.image_size / o.patch_size) ** 2;
    const sizes = { T: o.max_text, Q: o.max_prompt, A: o.max_answer, P };
    return o.objective === "joint"
      ? { ...sizes, Nm: B * Math.ceil(o.mask_text * o.max_text), Np: B * Math.ceil((o.mask_image * P) / o.merge ** 2) }
      : { ...sizes, Na: B * o.max_answer, K: B * Math.floor(o.max_answer / boxTokens) };
  },
  create(o, host) {
    const tokenizer = buildTokenizer(o.tokenizer, host);
    const task = host.build<Task>(o.task.use, o.task.options, "task");
    return new ShardLoader(o, { tokenizer, prompt: o.prompt_tokenizer === undefined ? undefined : buildTokenizer(o.prompt_tokenizer, host) }, task, (path) => host.resolvePath(path));
  },
});

function portsOf(o: Options): Ports {
  const S = o.image_size, P = (S / o.patch_size) ** 2;
  const floats = (dims: (string | number)[]) => port(dims, { gradient: false });
  const ids = (...dims: string[]) => port(dims, { dtype: "i32" });
  const mask = (...dims: (string | number)[]) => port(dims, { dtype: "u8" });
  const page = {
    pixels: floats(["B", 3, S, S]), patch_mask: mask("B", P),
    text_ids: ids("B", "T"), text_mask: mask("B", "T"), text_boxes: floats(["B", "T", 4]), has_box: mask("B", "T"),
  };
  const out = o.objective === "joint"
    ? { ...page, mlm_labels: ids("B", "T"), wpa_labels: ids("B", "T"), mlm_index: ids("Nm"), mlm_targets: ids("Nm"), mim_index: ids("Np") }
    : {
      ...page, prompt_ids: ids("B", "Q"), prompt_mask: mask("B", "Q"), dec_ids: ids("B", "A"), dec_mask: mask("B", "A"), dec_labels: ids("B", "A"),
      dec_index: ids("Na"), dec_targets: ids("Na"), box_targets: floats(["K", 4]), box_index: ids("K"),
    };
  return { in: {}, out };
}

/** A page with its text as tokens, and its questions: one entry per field, its wordings in the task's order. */
interface ReadyPage extends CorpusPage { text: PageText; questions: { wordings: Question[]; dialogues: DialogueText[] }[] }

class ShardLoader implements DataLoader {
  readonly tokenizer: Tokenizer;
  readonly promptTokenizer: Tokenizer;
  readonly #options: Options;
  readonly #task: Task;
  readonly #resolve: (path: string) => string;
  #pages: Partial<Record<Split, ReadyPage[]>> = {};
  #order: EpochOrder | undefined;
  /** Answer mode: (page, question) of the train pages, in order. */
  #asked: { page: ReadyPage; question: ReadyPage["questions"][number] }[] = [];
  #faults: Fault[] = [];
  #stats: Record<string, number> = {};
  /** With a cap, by seed and sizes of a run. */
  readonly #steps = new Map<string, CappedSteps>();

  constructor(o: Options, { tokenizer, prompt = tokenizer }: { tokenizer: Tokenizer; prompt?: Tokenizer }, task: Task, resolve: (path: string) => string) {
    this.#options = o;
    this.tokenizer = tokenizer;
    this.promptTokenizer = prompt;
    this.#task = task;
    this.#resolve = resolve;
  }

  /** Reads and decodes everything; a second call does nothing. Throws ERR_DATA when no page is left. */
  async open(): Promise<void> {
    if (this.#pages.train) return;
    this.#stats = { train_pages: 0, held_out_pages: 0, skipped_samples: 0, faults: 0, clamped_boxes: 0, pages_without_words: 0, cut_pages: 0, cut_prompts: 0, cut_answers: 0 };
    const train = this.#ready(await readCorpus(findShards(this.#options.shards.map(this.#resolve)), this.#options.image_size, this.#options.pages));
    const heldOut = this.#options.held_out ? this.#ready(await readCorpus(findShards(this.#options.held_out.map(this.#resolve)), this.#options.image_size, this.#options.pages)) : [];
    this.#asked = train.flatMap((page) => page.questions.map((question) => ({ page, question })));
    if (this.#options.objective === "answer" && this.#asked.length === 0) {
      throw dataError({ file: this.#options.shards.join(", ") }, `none of ${train.length} pages has a question for ${this.#options.task.use}`, "Choose another task, or shards whose records carry what it asks for.");
    }
    this.#order = new EpochOrder(this.#options.objective === "joint" ? train.length : this.#asked.length);
    Object.assign(this.#stats, { train_pages: train.length, held_out_pages: heldOut.length, faults: this.#faults.length });
    this.#pages = { train, "held-out": heldOut };
  }

  async batch({ step, seed, batch, microbatches }: { step: number; seed: number; batch: number; microbatches: number }): Promise<HostBatch> {
    await this.open();
    const [first, end] = this.#options.max_cost === undefined ? [step * batch, (step + 1) * batch] : this.#capped(seed, batch, microbatches).draws(step);
    const draws = Array.from({ length: end - first }, (_, i) => first + i);
    if (this.#options.objective === "joint") {
      const rows = byLength(draws.map((draw) => this.#jointRow(this.#drawn(seed, draw), { seed, step, sample: draw })));
      return hostBatch(step, this.#parts(rows, microbatches).map(([from, to]) => collateJoint(rows.slice(from, to), this.#shape())));
    }
    const rows = byLength(draws.map((draw) => this.#answerRow(seed, step, draw)));
    return hostBatch(step, this.#parts(rows, microbatches).map(([from, to]) => collateAnswer(rows.slice(from, to), this.#shape())));
  }

  #drawn(seed: number, draw: number): ReadyPage {
    return this.#pages.train![this.#order!.item(seed, draw)];
  }

  #answerRow(seed: number, step: number, draw: number): AnswerRow {
    const { page, question } = this.#asked[this.#order!.item(seed, draw)];
    const wording = stream({ seed, step, sample: draw, site: site.wording }).randint(0, question.wordings.length - 1);
    return answerRow(page, question.dialogues[wording], draw);
  }

  /** Rows into microbatches. */
  #parts(rows: readonly (JointRow | AnswerRow)[], microbatches: number): [from: number, to: number][] {
    return this.#options.max_cost === undefined ? contiguous(rows.length, microbatches) : cutByCost(rows.map(pageCost), this.#patches(), microbatches).cuts;
  }

  #patches(): number {
    return (this.#options.image_size / this.#options.patch_size) ** 2;
  }

  #capped(seed: number, batch: number, microbatches: number): CappedSteps {
    const key = `${seed} ${batch} ${microbatches}`, known = this.#steps.get(key);
    if (known) return known;
    const made = new CappedSteps({ batch, microbatches, fits: (step, from, to) => {
      const draws = Array.from({ length: to - from }, (_, i) => from + i);
      const rows = byLength(draws.map((draw) => (this.#options.objective === "joint" ? { text: this.#drawn(seed, draw).text } : this.#answerRow(seed, step, draw))));
      return cutByCost(rows.map(pageCost), this.#patches(), microbatches).most <= this.#options.max_cost!;
    } });
    this.#steps.set(key, made);
    return made;
  }

  /** One example per page and field, in the field's first wording. */
  async examples(split: Split): Promise<Example[]> {
    await this.open();
    return this.#pages[split]!.flatMap((page) => page.questions.map(({ wordings: [{ prompt, answer, boxes, field }] }) => ({
      key: field === undefined ? page.key : `${page.key}#${field}`, page: page.page, imageBytes: page.image, prompt, answer, boxes,
    })));
  }

  /** The ports of objective `answer`, `dec_ids` being `<bos> prompt <ans>`; no labels, no boxes. */
  async encode(examples: Example[]): Promise<HostMicrobatch> {
    const rows = await Promise.all(examples.map(async (example, i): Promise<AnswerRow> => {
      const image = example.imageBytes ?? example.page.image ?? (example.imagePath ? (await readPage(example.imagePath)).image : undefined);
      if (!image) throw dataError({ file: example.key }, "the example has no image", "Give imageBytes, imagePath or page.image.");
      return {
        key: example.key, sampleId: i, rgb: await decodePixels(image, this.#options.image_size, { file: example.imagePath ?? example.key }),
        text: pageText(example.page, this.tokenizer, this.#options.max_text),
        dialogue: dialogueText({ prompt: example.prompt }, this, this.#limits()),
      };
    }));
    return collateAnswer(rows, this.#shape()).microbatch;
  }

  /** Each batch is one microbatch with its own counts. `limit` counts pages (joint) or questions (answer). */
  async evaluationBatches({ seed, batch, limit = Infinity }: { seed: number; batch: number; limit?: number }): Promise<HostBatch[]> {
    await this.open();
    const pages = this.#pages["held-out"]!;
    const collated = this.#options.objective === "joint"
      ? chunks(pages.slice(0, limit).map((page, i) => this.#jointRow(page, { seed, step: evaluationStep, sample: i })), batch).map((rows) => collateJoint(rows, this.#shape()))
      : chunks(pages.flatMap((page) => page.questions.map(({ dialogues }) => ({ page, dialogue: dialogues[0] }))).slice(0, limit)
        .map(({ page, dialogue }, i) => answerRow(page, dialogue, i)), batch).map((rows) => collateAnswer(rows, this.#shape()));
    return collated.map((part, step) => hostBatch(step, [part]));
  }

  /** A page to ask about: an image with `<stem>.json` (or the file `words`) beside it, or a PDF (`file.pdf#page=2`). */
  async page(path: string, o: { words?: string } = {}): Promise<PageRecord & { image: Uint8Array }> {
    return readPage(path, o);
  }

  modelFiles(): readonly string[] {
    return [...new Set([this.tokenizer.file, this.promptTokenizer.file])].filter((file) => file !== undefined);
  }

  /** What was left out of the shards, and where it stood. */
  faults(): readonly Fault[] {
    return this.#faults;
  }

  stats(): Record<string, number> {
    return { ...this.#stats };
  }

  async close(): Promise<void> {
    this.#pages = {};
    this.#asked = [];
    this.#order = undefined;
    this.#steps.clear();
    this.#faults = [];
  }

  #ready(corpus: Corpus): ReadyPage[] {
    const { max_text, boxes } = this.#options;
    this.#faults.push(...corpus.faults);
    this.#count("skipped_samples", corpus.skipped);
    this.#count("clamped_boxes", corpus.clamped);
    return corpus.pages.map((page) => {
      const text = pageText(page.page, this.tokenizer, max_text);
      this.#count("cut_pages", Number(text.cut));
      this.#count("pages_without_words", Number(page.page.words.length === 0));
      // Wordings of one field are one question: drawn as one, evaluated as one.
      const byField = new Map<string, Question[]>();
      for (const question of this.#task.questions(page.page)) {
        const field = question.field ?? question.prompt;
        byField.set(field, [...(byField.get(field) ?? []), boxes ? question : { ...question, boxes: [] }]);
      }
      const questions = [...byField.values()].map((wordings) => {
        const dialogues = wordings.map((question) => dialogueText(question, this, this.#limits()));
        this.#count("cut_prompts", Number(dialogues[0].promptCut));
        this.#count("cut_answers", Number(dialogues[0].answerCut));
        return { wordings, dialogues };
      });
      return { ...page, text, questions };
    });
  }

  #jointRow(page: ReadyPage, key: { seed: number; step: number; sample: number }): JointRow {
    const { mask_text, mask_image, image_size, patch_size, merge, whole_word, wpa } = this.#options;
    const { tokenizer } = this;
    const draw = (purpose: number) => stream({ ...key, site: purpose });
    const grid = image_size / patch_size, side = grid / merge, cells = side * side;
    const hidden = spanMask(draw(site.spans), page.text.boxes.map((box) => box !== undefined), { share: mask_text, words: whole_word ? page.text.words : undefined });
    const cellMask = blockMask(draw(site.blocks), {
      rows: side, columns: side, count: Math.floor(mask_image * cells + 0.5), smallestBlock: Math.max(4, Math.floor(0.08 * cells + 0.5)),
    });
    const patchMask = Uint8Array.from({ length: grid * grid }, (_, p) => cellMask[Math.floor(p / grid / merge) * side + Math.floor((p % grid) / merge)]);
    return {
      key: page.key, sampleId: key.sample, rgb: page.rgb, text: page.text, hidden, patchMask, cellMask,
      ids: corrupt(draw(site.tokens), page.text.ids, hidden, { maskId: tokenizer.special.mask, textIds: textIds(tokenizer) }),
      alignment: alignmentLabels({ boxes: wpa.level === "segment" ? lineBoxes(page.page, page.text) : page.text.boxes, textMask: hidden, patchMask, grid, strict: wpa.strict }),
    };
  }

  #shape() {
    const { image_size, patch_size } = this.#options;
    const { tokenizer, promptTokenizer } = this;
    return { side: image_size, grid: image_size / patch_size, padId: tokenizer.special.pad, promptPadId: promptTokenizer.special.pad, isLocation: (id: number) => isLocationId(tokenizer, id) };
  }

  #limits() {
    return { prompt: this.#options.max_prompt, answer: this.#options.max_answer, inDecoder: this.#options.prompt_in_decoder };
  }

  #count(name: string, by: number): void {
    this.#stats[name] = (this.#stats[name] ?? 0) + by;
  }
}

function answerRow(page: ReadyPage, dialogue: DialogueText, sampleId: number): AnswerRow {
  return { key: page.key, sampleId, rgb: page.rgb, text: page.text, dialogue };
}

/** Pages of like length share a microbatch: it is padded to its longest, and padding costs as much as text. Ties keep the order drawn. */
function byLength<Row extends { text: PageText }>(rows: Row[]): Row[] {
  return rows.sort((a, b) => a.text.ids.length - b.text.ids.length);
}

function pageCost(row: { text: PageText; dialogue?: DialogueText }): PageCost {
  return { tokens: [row.text.ids, ...(row.dialogue ? [row.dialogue.promptIds, row.dialogue.ids] : [])].map((ids) => padded([ids.length])) };
}

function hostBatch(step: number, parts: { microbatch: HostMicrobatch; counts: Record<string, number> }[]): HostBatch {
  const counts: Record<string, number> = {};
  for (const part of parts) for (const [name, count] of Object.entries(part.counts)) counts[name] = (counts[name] ?? 0) + count;
  return { step, counts, microbatches: parts.map((part) => part.microbatch) };
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

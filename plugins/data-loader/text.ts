/**
 * The text of pages alone, as batches for a language model.
 *
 * TX-1: `batch` is a pure function of (seed, step), as L-1 of the page loader: order and masks come from Philox.
 * TX-2: `counts` are those of the whole batch, the same however it is cut into microbatches.
 * TX-3: `causal`: windows and what they say; `mntp`: windows with tokens hidden; `sentences`: lines, padded to the longest of a microbatch.
 */
import { z } from "zod";
import {
  definePlugin, isTextId, port, RuntimeError, textIds, type DataLoader, type Example, type HostBatch, type HostMicrobatch, type HostTensor, type Ports, type Split, type Tokenizer,
} from "../../runtime/index.ts";
import { readTexts, type TextPage } from "./corpus.ts";
import { i32, padded, u8 } from "./host-tensors.ts";
import { corrupt } from "./masking.ts";
import { contiguous, EpochOrder, evaluationStep, site, stream } from "./order.ts";
import { dataError } from "./page-record.ts";
import { packedWindows, sentences, tokenMask, type Window } from "./sequences.ts";
import { buildTokenizer, filePatterns, tokenizerOption } from "./source-options.ts";
import { findShards, type Fault } from "./tar.ts";

const options = z.strictObject({
  /** Of the train pages; images are not read. */
  shards: filePatterns,
  held_out: filePatterns.optional(),
  pages: z.int().positive().optional(),
  tokenizer: tokenizerOption,
  objective: z.enum(["causal", "mntp", "sentences"]).default("causal"),
  /** Tokens of a window; of a sentence at most. */
  length: z.int().min(8).default(256),
  /** Share of tokens hidden: 0.2 for Llama's family, 0.8 for Mistral. Of the hidden ones `mask_kept` are `<mask>`, half of the rest random: 0.8 and 1. */
  mask_text: z.number().min(0).max(1).default(0.2),
  mask_kept: z.number().min(0).max(1).default(0.8),
});

type Options = z.output<typeof options>;

const countOf = { causal: "lm_tokens", mntp: "mntp_tokens", sentences: "sentences" } as const;

export const text = definePlugin({
  kind: "data-loader", name: "text", version: "1.0.0",
  about: "The text of pages from webdataset tars: packed windows, hidden tokens, or sentences.",
  options,
  ports: ({ objective, length }): Ports => {
    const ids = (...dims: (string | number)[]) => port(dims, { dtype: "i32" });
    const T = objective === "sentences" ? "T" : length;
    return {
      in: {},
      out: {
        text_ids: ids("B", T), text_mask: port(["B", T], { dtype: "u8" }), ...(objective === "causal" && { labels: ids("B", T) }),
        ...(objective === "mntp" && { labels: ids("B", T), mntp_index: ids("Nm"), mntp_targets: ids("Nm") }),
      },
    };
  },
  counts: ({ objective }) => ["pages", countOf[objective]],
  maxDims: ({ length }, { B = 1 }) => ({ T: length, Nm: B * length }),
  create(o, host) {
    const tokenizer = buildTokenizer(o.tokenizer, host);
    return new TextLoader(o, tokenizer, (path) => host.resolvePath(path));
  },
});

interface Row { key: string; sampleId: number; ids: readonly number[]; labels: Int32Array }

class TextLoader implements DataLoader {
  #texts: Partial<Record<Split, Window[]>> = {};
  #order: EpochOrder | undefined;
  #faults: Fault[] = [];
  #stats: Record<string, number> = {};

  constructor(readonly options: Options, readonly tokenizer: Tokenizer, readonly resolve: (path: string) => string) {}

  /** Reads everything; a second call does nothing. Throws ERR_DATA where the pages hold too little text. */
  async open(): Promise<void> {
    if (this.#texts.train) return;
    const { shards, held_out, pages } = this.options;
    this.#stats = { train_pages: 0, held_out_pages: 0, train_texts: 0, held_out_texts: 0, skipped_samples: 0, faults: 0, left_tokens: 0, repeated_sentences: 0, cut_sentences: 0 };
    const read = async (split: "train" | "held_out", from: readonly string[]): Promise<Window[]> => {
      const corpus = await readTexts(findShards(from.map(this.resolve)), pages);
      this.#faults.push(...corpus.faults);
      const texts = this.#cut(corpus.pages);
      if (texts.length === 0) throw dataError({ file: from.join(", ") }, `${corpus.pages.length} pages hold no text of ${this.options.length} tokens`, "Give more pages, or a smaller `length`.");
      Object.assign(this.#stats, { [`${split}_pages`]: corpus.pages.length, [`${split}_texts`]: texts.length, skipped_samples: this.#stats.skipped_samples + corpus.skipped });
      return texts;
    };
    const train = await read("train", shards), heldOut = held_out ? await read("held_out", held_out) : [];
    this.#stats.faults = this.#faults.length;
    this.#order = new EpochOrder(train.length);
    this.#texts = { train, "held-out": heldOut };
  }

  async batch({ step, seed, batch, microbatches }: { step: number; seed: number; batch: number; microbatches: number }): Promise<HostBatch> {
    await this.open();
    const rows = Array.from({ length: batch }, (_, i) => step * batch + i)
      .map((draw) => this.#row(this.#texts.train![this.#order!.item(seed, draw)], { seed, step, sample: draw }));
    return this.#hostBatch(step, contiguous(batch, microbatches).map(([from, to]) => rows.slice(from, to)));
  }

  async evaluationBatches({ seed, batch, limit = Infinity }: { seed: number; batch: number; limit?: number }): Promise<HostBatch[]> {
    await this.open();
    const rows = this.#texts["held-out"]!.slice(0, limit).map((each, i) => this.#row(each, { seed, step: evaluationStep, sample: i }));
    return Array.from({ length: Math.ceil(rows.length / batch) }, (_, i) => this.#hostBatch(i, [rows.slice(i * batch, (i + 1) * batch)]));
  }

  /** None: text alone asks nothing. */
  async examples(): Promise<Example[]> {
    return [];
  }

  async encode(): Promise<HostMicrobatch> {
    throw new RuntimeError("ERR_INPUT", "data-loader/text: expected a page to be asked about by a loader of pages; this one has text alone. Use data-loader/shards.");
  }

  modelFiles(): readonly string[] {
    return this.tokenizer.file === undefined ? [] : [this.tokenizer.file];
  }

  faults(): readonly Fault[] {
    return this.#faults;
  }

  stats(): Record<string, number> {
    return { ...this.#stats };
  }

  async close(): Promise<void> {
    this.#texts = {};
    this.#order = undefined;
    this.#faults = [];
  }

  #cut(pages: readonly TextPage[]): Window[] {
    if (this.options.objective === "sentences") {
      const { sentences: found, repeated, cut } = sentences(pages, this.tokenizer, this.options.length);
      this.#stats.repeated_sentences += repeated;
      this.#stats.cut_sentences += cut;
      return found;
    }
    const { windows, left } = packedWindows(pages, this.tokenizer, this.options.length);
    this.#stats.left_tokens += left;
    return windows;
  }

  #row({ key, ids }: Window, at: { seed: number; step: number; sample: number }): Row {
    const { objective, mask_text, mask_kept } = this.options;
    if (objective !== "mntp") return { key, sampleId: at.sample, ids, labels: Int32Array.from(ids) };
    const { tokenizer } = this;
    const hidden = tokenMask(stream({ ...at, site: site.spans }), ids, { share: mask_text, isText: (id) => isTextId(tokenizer, id) });
    return {
      key, sampleId: at.sample, labels: Int32Array.from(ids, (id, i) => (hidden[i] ? id : -100)),
      ids: corrupt(stream({ ...at, site: site.tokens }), ids, hidden, { maskId: tokenizer.special.mask, textIds: textIds(tokenizer), kept: mask_kept }),
    };
  }

  #hostBatch(step: number, parts: readonly (readonly Row[])[]): HostBatch {
    const { objective } = this.options;
    const rows = parts.flat(), asked = (row: Row) => row.labels.reduce((n, label, i) => n + Number(i > 0 && label !== -100), 0);
    const counted = objective === "sentences" ? rows.length : rows.reduce((n, row) => n + asked(row), 0);
    return { step, counts: { pages: rows.length, [countOf[objective]]: counted }, microbatches: parts.map((part) => this.#collate(part)) };
  }

  #collate(rows: readonly Row[]): HostMicrobatch {
    const { objective, length } = this.options;
    const T = objective === "sentences" ? padded(rows.map((row) => row.ids.length)) : length;
    const ids = new Int32Array(rows.length * T).fill(this.tokenizer.special.pad), mask = new Uint8Array(rows.length * T), labels = new Int32Array(rows.length * T).fill(-100);
    const index: number[] = [], targets: number[] = [];
    rows.forEach((row, b) => {
      ids.set(row.ids, b * T);
      mask.fill(1, b * T, b * T + row.ids.length);
      labels.set(row.labels, b * T);
      row.labels.forEach((label, t) => { if (t > 0 && label !== -100) index.push(b * T + t - 1), targets.push(label); });
    });
    const tensors: Record<string, HostTensor> = { text_ids: i32(ids, [rows.length, T]), text_mask: u8(mask, [rows.length, T]) };
    if (objective !== "sentences") tensors.labels = i32(labels, [rows.length, T]);
    if (objective === "mntp") Object.assign(tensors, { mntp_index: i32(index), mntp_targets: i32(targets) });
    return { tensors, sampleIds: rows.map((row) => row.sampleId), keys: rows.map((row) => row.key) };
  }
}

/**
 * Writes the answer: a causal Llama stack over [memory as soft prefix | <bos> instruction <ans> answer]. The prefix needs no new layer, so
 * unmodified Llama weights fit; its output is tied to its embedding table, or has a table of its own.
 * Sources: Touvron et al. 2023 (Llama), Su et al. 2021 (RoPE), Ainslie et al. 2023 (GQA), Li and Liang 2021 (prefixes), Hu et al. 2021 (LoRA).
 *
 * DE-1: positions count real keys only, `max(0, cumsum(mask) - 1)`: padding, wherever it stands, never shifts a position.
 * DE-2: padding never changes the hidden state of a real token.
 * DE-3: `begin` and `next` give the numbers that one `forward` over all tokens would give; the prefix is computed once.
 * DE-4: the step of one token is the same work whatever was generated before (caches have room and are written where a tensor says), so
 *       it is compiled: replayed to the same bits, for all pages of the same batch size and room.
 * DE-5: a branch of a generation goes on as the row it was taken from would have: the same bits, whatever stands beside it.
 * DE-6: `share_base_with_text`: table, layers and norm are the text encoder's and learn through it; adapters, a head and the prefix are its own.
 * DE-7: `window`: a token sees itself and the window - 1 real keys before it, prefix and tokens alike; caches hold no more than that and some room.
 */
import { z } from "zod";
import {
  adaptersFrom, add, Compiled, concat, definePlugin, enteredScope, fromArray, gatherRows, linear, loraOption, nn, port, reshape, RuntimeError,
  ropeScalingFrom, ropeScalingOption, slice, toPrecision, widen, widened, writeRows, zeros, type ForwardContext, type GenerativeDecoder, type Ports, type Tensor,
} from "../../runtime/index.ts";
import { countReal, positionsOf } from "./positions.ts";
import { branchOf, cacheTensors, capacityFor, forget, keepOnly, keptOf, lastReal, makeRoom, release, tokensFirst, tokensPerRow, type Generation } from "./generation.ts";
import { memoryPrefix, queryHeads } from "./memory.ts";
import { SharedBase } from "./shared-base.ts";
import { lastKeys, packRows, seen } from "./window.ts";

const options = z.strictObject({
  memory_width: z.int().positive().default(96),
  vocabulary: z.int().positive().default(2048),
  width: z.int().positive().default(128),
  layers: z.int().positive().default(3),
  heads: z.int().positive().default(4),
  kv_heads: z.int().positive().default(2),
  head_dim: z.int().positive().multipleOf(2).optional(),
  hidden: z.int().positive().default(352),
  rope_theta: z.number().positive().default(10_000),
  /** Not `dynamic`: keys in a cache were turned once and stay so. */
  rope_scaling: ropeScalingOption.nullish(),
  eps: z.number().positive().default(1e-5),
  /** Mistral's sliding window, over prefix and tokens. */
  window: z.int().positive().nullish(),
  /** false: a table of its own, `decoder.lm_head`, turns states into logits. */
  tied: z.boolean().default(true),
  /** The memory as this many vectors that learned queries find in it; left out: all of it. */
  max_prefix: z.int().positive().optional(),
  lora: loraOption.optional(),
  /** Table, layers and norm come from the text encoder's output `base` (its option `share_base`), whose sizes must be these. */
  share_base_with_text: z.boolean().default(false),
  /** Generation takes this id, and every negative one, for "no token in this row". */
  pad_id: z.int().nonnegative().default(0),
  /** Generation records the step of one token and replays it, to the same bits. */
  compile: z.boolean().default(true),
}).refine((o) => o.head_dim !== undefined || o.width % (2 * o.heads) === 0, { error: "width must be an even multiple of heads where head_dim is not given", path: ["heads"] })
  .refine((o) => o.heads % o.kv_heads === 0, { error: "heads must be a multiple of kv_heads", path: ["kv_heads"] })
  .refine((o) => o.rope_scaling?.type !== "dynamic", { error: "dynamic scaling would turn the keys of a cache anew with every token; use linear or llama3", path: ["rope_scaling"] })
  .refine((o) => o.max_prefix === undefined || o.memory_width % queryHeads === 0, { error: `memory_width must be a multiple of ${queryHeads} for learned queries`, path: ["max_prefix"] });

type Options = z.output<typeof options>;

/** The stack: table, layers, norm. */
function stackOf(o: Options) {
  const headDim = o.head_dim ?? o.width / o.heads;
  const table = nn.embedding({ count: o.vocabulary, width: o.width, init: nn.normal(tableStd) });
  const layers = Array.from({ length: o.layers }, () =>
    nn.llamaLayer({ width: o.width, heads: o.heads, kvHeads: o.kv_heads, headDim, hidden: o.hidden, eps: o.eps }));
  const norm = nn.rmsNorm({ width: o.width, eps: o.eps });
  const adapters = new nn.AdapterSet(nn.llamaParts(table, layers), "decoder.");
  if (o.lora) for (const each of adaptersFrom(o.lora)) adapters.attach(each);
  return { headDim, table, layers, norm, adapters, named: { "decoder.embed_tokens": table, "decoder.layers": layers, "decoder.norm": norm } };
}

export const llamaDecoder = definePlugin({
  kind: "decoder", name: "llama", version: "1.0.0",
  about: "Causal Llama stack over the memory as soft prefix, with a key/value cache, LoRA and tied or own output.",
  options,
  ports: ({ memory_width, vocabulary, width, ...o }): Ports => ({
    in: {
      memory: port(["B", "M", memory_width]), memory_mask: port(["B", "M"], { dtype: "u8" }),
      prompt: port(["B", memory_width], { optional: true }),
      dec_ids: port(["B", "A"], { dtype: "i32" }), dec_mask: port(["B", "A"], { dtype: "u8" }),
      ...(o.share_base_with_text && { base: port([nn.llamaStackSize({ vocabulary, width, kvHeads: o.kv_heads, headDim: o.head_dim ?? width / o.heads, ...o })]) }),
    },
    out: { hidden: port(["B", "A", width]), embedding: port([vocabulary, width]) },
  }),
  tensor: ({ heads, kv_heads, hidden, vocabulary, share_base_with_text, tied }) => {
    if (share_base_with_text) return { refused: { option: "share_base_with_text", because: "the base comes as one tensor, which no member has" } };
    return { ...nn.llamaTensorPlan("decoder.layers.*"), vocabulary: ["decoder.embed_tokens", ...(tied ? [] : ["decoder.lm_head"])], divides: { heads, kv_heads, hidden, vocabulary } };
  },
  create(o): GenerativeDecoder & { adapters: nn.AdapterSet } {
    const { width, pad_id, compile } = o, window = o.window ?? undefined;
    const { headDim, table, layers, norm, adapters, named } = stackOf(o);
    const lmHead = o.tied ? undefined : nn.linear({ in: width, out: o.vocabulary, bias: false });
    const prefixOf = memoryPrefix({ memoryWidth: o.memory_width, width, maxPrefix: o.max_prefix, std: tableStd });
    const stack = nn.collect(named), language = { ...stack, ...nn.collect({ "decoder.lm_head": lmHead }) };
    if (o.lora) nn.freezeBase(language, o.lora.train);
    const base = new SharedBase(o.share_base_with_text ? nn.baseOf(stack) : {});
    const parameters = { ...Object.fromEntries(Object.entries(language).filter(([name]) => !(name in base.parameters))), ...prefixOf.parameters() };
    const frequencies = nn.ropeFrequencies64({ headDim, theta: o.rope_theta, scaling: ropeScalingFrom(o.rope_scaling, 0) });

    const embed = (ids: Tensor, precision: ForwardContext["precision"]): Tensor => toPrecision(table.forward(ids), precision);
    /** (V, D): its rows turn states into logits. */
    const headTable = (): Tensor => (lmHead ? nn.wholeOf(lmHead.weight, lmHead.weight.value) : table.table());

    /** x (B, N, D), the last N of the keys, with a window without gaps between real ones -> states (B, N, D) before the final norm. `done`: of a layer. */
    function run(x: Tensor, positions: Tensor, keyMask: Tensor, { cached, keys, done }: { cached?: { at: Tensor; caches: readonly nn.KeyValueCache[] }; keys?: ForwardContext; done?(layer: number): void }): Tensor {
      const invFreq = fromArray(frequencies, [headDim / 2], widened(x.dtype));
      // One token sees every real key: without the rule, the keys may have room behind it.
      const causal = x.shape[1] > 1;
      return nn.throughStack(keys ?? {}, x, (all) => layers.reduce((states, layer, i) => {
        const next = nn.throughBlock(keys ?? {}, () => layer.forward(states, {
          positions, invFreq, keyMask, causal, window: causal ? window : undefined, cache: cached && { at: cached.at, room: cached.caches[i] }, keys,
        }));
        done?.(i);
        return next;
      }, all));
    }

    const oneToken = new Compiled("decoder/llama next");

    /** ids, mask (B, A) -> hidden (B, D) of rows `last`, logits (B, V), real keys (B, 1); caches and key mask are written from `at` on. */
    function advance(state: Generation, { ids, mask, at, last }: Record<string, Tensor>): Record<string, Tensor> {
      const [batch, count] = ids.shape;
      writeRows(mask, at, state.keyMask);
      const keyMask = count > 1 ? slice(state.keyMask, 1, 0, state.length + count) : window === undefined ? state.keyMask : seen(state.keyMask, window);
      const states = reshape(run(embed(ids, state.precision), positionsOf(mask, state.real), keyMask, { cached: { at, caches: state.caches } }), [batch * count, width]);
      const hidden = norm.forward(gatherRows(states, last));
      return { logits: linear(widen(hidden), headTable()), real: add(state.real, countReal(mask)), hidden };
    }

    return {
      parameters: () => parameters,
      /** By name: activate, merge into the weights, unmerge. */
      adapters,
      // memory (B, M, Dm), dec_ids (B, A) -> hidden (B, A, D), and the table (V, D) whose rows turn it into logits
      forward: (inputs, context) => base.with(inputs.base ? base.cut(inputs.base) : {}, () => {
        const { dec_ids, dec_mask } = inputs, { prefix, mask } = prefixOf.forward(inputs, context.precision);
        const keyMask = concat([mask, dec_mask], 1), x = concat([prefix, embed(dec_ids, context.precision)], 1);
        const [batch, length] = keyMask.shape, start = prefix.shape[1], answer = dec_ids.shape[1];
        if (window === undefined) return { hidden: norm.forward(slice(run(x, positionsOf(keyMask), keyMask, { keys: context }), 1, start, answer)), embedding: headTable() };
        const packed = packRows(x, keyMask), states = run(packed.x, positionsOf(packed.mask), packed.mask, { keys: context });
        return { hidden: norm.forward(gatherRows(reshape(states, [batch * length, width]), slice(packed.places, 1, start, answer))), embedding: headTable() };
      }),

      /** Computes the prefix of each row from `memory`, `memory_mask` and `prompt`. All tokens come with `next`, `<bos>` and the instruction first. */
      begin: (inputs, { precision }) => {
        const borrowed = inputs.base ? keepOnly(() => base.cut(inputs.base)) : {};
        let caches: nn.KeyValueCache[] = [], length = 0;
        try {
          const kept = base.with(borrowed, () => keepOnly(() => {
            const { prefix, mask } = prefixOf.forward(inputs, precision), [batch, places] = mask.shape;
            const begun = window === undefined ? { x: prefix, mask } : packRows(prefix, mask);
            const { keep, capacity } = window === undefined ? { keep: places, capacity: capacityFor(places) } : keptOf(places, window);
            const last = window === undefined ? undefined : lastKeys(begun.mask, keep, places);
            caches = layers.map(() => ({ capacity: last ? places : capacity }));
            run(begun.x, positionsOf(begun.mask), begun.mask, {
              cached: { at: fromArray([0], [1], "i32"), caches },
              done: last && ((layer) => { caches[layer] = nn.pickCache(caches[layer], last.from, keep, capacity); }), // one layer's whole prefix at a time
            });
            length = keep;
            return { keyMask: concat([last?.mask ?? mask, zeros([batch, capacity - keep], "u8")], 1), real: countReal(mask) };
          }));
          return { caches, length, precision, borrowed, ...kept } satisfies Generation;
        } catch (error) {
          release({ caches, borrowed });
          throw error;
        }
      },

      /**
       * ids (B, A) -> logits (B, V) after each row's last real token. `pad_id` and negative ids are no tokens, wherever they stand;
       * the logits of a row without any token mean nothing. Logits are f32 also in bf16, where the best two would often be equal. The result belongs to the entered scope, else to the caller.
       */
      next: (opaque, ids) => {
        const state = opaque as Generation;
        const batch = state.real.shape[0];
        const shape = [batch, tokensPerRow(ids, batch)], isToken = Array.from(ids, (id) => id >= 0 && id !== pad_id);
        const { ids: tokens, real } = window === undefined || shape[1] === 1 ? { ids, real: isToken } : tokensFirst(ids, isToken, batch);
        if (window !== undefined && shape[1] > 1) forget(state, window); // no gaps between the keys before these tokens
        makeRoom(state, shape[1], window);
        const { logits, ...kept } = base.with(state.borrowed, () => keepOnly(() => {
          const given = {
            ids: fromArray(tokens.map((id) => Math.max(0, id)), shape), mask: fromArray(Uint8Array.from(real, Number), shape),
            at: fromArray([state.length], [1], "i32"), last: fromArray(lastReal(real, batch), [batch]),
          };
          const { keyMask, real: before, caches, precision, borrowed } = state;
          if (shape[1] > 1 || !compile) return advance(state, given);
          return oneToken.run({ ...given, keyMask, before, ...cacheTensors(caches), ...borrowed }, () => advance(state, given), `${precision} ${adapters.state}`);
        }));
        for (const tensor of [state.real, state.hidden]) tensor?.dispose();
        Object.assign(state, kept, { length: state.length + shape[1] });
        return enteredScope()?.adopt(logits) ?? logits;
      },

      branch: (opaque, rows) => branchOf(opaque as Generation, rows),

      hidden: (opaque) => {
        const { hidden } = opaque as Generation;
        if (!hidden) throw new RuntimeError("ERR_INPUT", "decoder/llama hidden: expected a generation with at least one token, got one just begun. Call next() first.");
        return hidden;
      },

      end: (opaque) => release(opaque as Generation),
    };
  },
});

/** Standard deviation of the embedding table at the start. Source: the Llama releases. */
const tableStd = 0.02;

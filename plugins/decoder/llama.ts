/**
 * Writes the answer: a causal Llama stack over [memory as soft prefix | <bos> instruction <ans> answer], its output tied to its
 * embedding table. The prefix needs no new layer, so unmodified Llama weights fit.
 * Sources: Touvron et al. 2023 (Llama), Su et al. 2021 (RoPE), Ainslie et al. 2023 (GQA), Li and Liang 2021 (prefixes).
 *
 * DE-1: positions count real keys only, `max(0, cumsum(mask) - 1)`: padding, wherever it stands, never shifts a position.
 * DE-2: padding never changes the hidden state of a real token.
 * DE-3: `begin` and `next` give the numbers that one `forward` over all tokens would give; the prefix is computed once.
 * DE-4: the step of one token is the same work whatever was generated before (caches have room and are written where a tensor says), so
 *       it is compiled: replayed to the same bits, for all pages of the same batch size and room.
 * DE-5: a branch of a generation goes on as the row it was taken from would have: the same bits, whatever stands beside it.
 */
import { z } from "zod";
import {
  add, Compiled, concat, definePlugin, enteredScope, fromArray, gatherRows, linear, nn, port, reshape, RuntimeError, slice, toPrecision,
  widen, widened, writeRows, zeros, type GenerativeDecoder, type Precision, type Tensor,
} from "../../runtime/index.ts";
import { countReal, positionsOf } from "./positions.ts";
import { branchOf, cacheTensors, capacityFor, keepOnly, lastReal, makeRoom, release, tokensPerRow, type Generation } from "./generation.ts";

export const llamaDecoder = definePlugin({
  kind: "decoder", name: "llama", version: "1.0.0",
  about: "Causal Llama stack over the memory as soft prefix, with tied output and a key/value cache.",
  options: z.strictObject({
    memory_width: z.int().positive().default(96),
    vocabulary: z.int().positive().default(2048),
    width: z.int().positive().default(128),
    layers: z.int().positive().default(3),
    heads: z.int().positive().default(4),
    kv_heads: z.int().positive().default(2),
    head_dim: z.int().positive().multipleOf(2).optional(),
    hidden: z.int().positive().default(352),
    rope_theta: z.number().positive().default(10_000),
    eps: z.number().positive().default(1e-5),
    /** Generation takes this id, and every negative one, for "no token in this row". */
    pad_id: z.int().nonnegative().default(0),
    /** Generation records the step of one token and replays it, to the same bits. */
    compile: z.boolean().default(true),
  }).refine((o) => o.head_dim !== undefined || o.width % (2 * o.heads) === 0, { error: "width must be an even multiple of heads where head_dim is not given", path: ["heads"] })
    .refine((o) => o.heads % o.kv_heads === 0, { error: "heads must be a multiple of kv_heads", path: ["kv_heads"] }),
  ports: ({ memory_width, vocabulary, width }) => ({
    in: {
      memory: port(["B", "M", memory_width]), memory_mask: port(["B", "M"], { dtype: "u8" }),
      prompt: port(["B", memory_width], { optional: true }),
      dec_ids: port(["B", "A"], { dtype: "i32" }), dec_mask: port(["B", "A"], { dtype: "u8" }),
    },
    out: { hidden: port(["B", "A", width]), embedding: port([vocabulary, width]) },
  }),
  create(o): GenerativeDecoder {
    const { width, pad_id, compile } = o;
    const headDim = o.head_dim ?? width / o.heads;
    const table = nn.embedding({ count: o.vocabulary, width, init: nn.normal(tableStd) });
    const layers = Array.from({ length: o.layers }, () =>
      nn.llamaLayer({ width, heads: o.heads, kvHeads: o.kv_heads, headDim, hidden: o.hidden, eps: o.eps }));
    const norm = nn.rmsNorm({ width, eps: o.eps });
    // Prefix vectors start at the scale of token embeddings: std = rms(table) / sqrt(width of the memory).
    const memoryProjection = nn.linear({ in: o.memory_width, out: width, init: nn.normal(tableStd / Math.sqrt(o.memory_width)) });
    const parameters = nn.collect({
      "decoder.embed_tokens": table, "decoder.layers": layers, "decoder.norm": norm, memory_proj: memoryProjection,
    });
    const frequencies = nn.ropeFrequencies64({ headDim, theta: o.rope_theta });

    const embed = (ids: Tensor, precision: Precision): Tensor => toPrecision(table.forward(ids), precision);

    /** memory (B, M, Dm) [+ prompt (B, Dm), the same for every position] -> prefix (B, M, D) */
    function prefixOf({ memory, prompt }: Record<string, Tensor>): Tensor {
      const [batch, , memoryWidth] = memory.shape;
      return memoryProjection.forward(prompt ? add(memory, reshape(prompt, [batch, 1, memoryWidth])) : memory);
    }

    /** x (B, N, D), the last N of the keys -> states (B, N, D) before the final norm. */
    function run(x: Tensor, positions: Tensor, keyMask: Tensor, cached?: { at: Tensor; caches: readonly nn.KeyValueCache[] }): Tensor {
      const invFreq = fromArray(frequencies, [headDim / 2], widened(x.dtype));
      // One token sees every real key: without the rule, the keys may have room behind it.
      const causal = x.shape[1] > 1;
      return layers.reduce((states, layer, i) => layer.forward(states, {
        positions, invFreq, keyMask, causal, cache: cached && { at: cached.at, room: cached.caches[i] },
      }), x);
    }

    const oneToken = new Compiled("decoder/llama next");

    /** ids, mask (B, A) -> hidden (B, D) of rows `last`, logits (B, V), real keys (B, 1); caches and key mask are written from `at` on. */
    function advance(state: Generation, { ids, mask, at, last }: Record<string, Tensor>): Record<string, Tensor> {
      const [batch, count] = ids.shape;
      writeRows(mask, at, state.keyMask);
      const keyMask = count === 1 ? state.keyMask : slice(state.keyMask, 1, 0, state.length + count);
      const states = reshape(run(embed(ids, state.precision), positionsOf(mask, state.real), keyMask, { at, caches: state.caches }), [batch * count, width]);
      const hidden = norm.forward(gatherRows(states, last));
      return { logits: linear(widen(hidden), table.weight.value), real: add(state.real, countReal(mask)), hidden };
    }

    return {
      parameters: () => parameters,
      // memory (B, M, Dm), dec_ids (B, A) -> hidden (B, A, D), and the table (V, D) whose rows turn it into logits
      forward: ({ memory, memory_mask, prompt, dec_ids, dec_mask }, { precision }) => {
        const keyMask = concat([memory_mask, dec_mask], 1);
        const x = concat([prefixOf({ memory, prompt }), embed(dec_ids, precision)], 1);
        const states = run(x, positionsOf(keyMask), keyMask);
        return { hidden: norm.forward(slice(states, 1, memory.shape[1], dec_ids.shape[1])), embedding: table.weight.value };
      },

      /** Computes the prefix of each row from `memory`, `memory_mask` and `prompt`. All tokens come with `next`, `<bos>` and the instruction first. */
      begin: ({ memory, memory_mask, prompt }, { precision }) => {
        const [batch, length] = memory_mask.shape, capacity = capacityFor(length);
        const caches: nn.KeyValueCache[] = layers.map(() => ({ capacity }));
        const kept = keepOnly(() => {
          run(prefixOf({ memory, prompt }), positionsOf(memory_mask), memory_mask, { at: fromArray([0], [1], "i32"), caches });
          return { keyMask: concat([memory_mask, zeros([batch, capacity - length], "u8")], 1), real: countReal(memory_mask) };
        });
        return { caches, length, precision, ...kept } satisfies Generation;
      },

      /**
       * ids (B, A) -> logits (B, V) after each row's last real token. `pad_id` and negative ids are no tokens, wherever they stand;
       * the logits of a row without any token mean nothing. Logits are f32 also in bf16, where the best two would often be equal. The result belongs to the entered scope, else to the caller.
       */
      next: (opaque, ids) => {
        const state = opaque as Generation;
        const batch = state.real.shape[0];
        const shape = [batch, tokensPerRow(ids, batch)];
        const real = Array.from(ids, (id) => id >= 0 && id !== pad_id);
        makeRoom(state, state.length + shape[1]);
        const { logits, ...kept } = keepOnly(() => {
          const given = {
            ids: fromArray(ids.map((id) => Math.max(0, id)), shape), mask: fromArray(Uint8Array.from(real, Number), shape),
            at: fromArray([state.length], [1], "i32"), last: fromArray(lastReal(real, batch), [batch]),
          };
          const { keyMask, real: before, caches, precision } = state;
          if (shape[1] > 1 || !compile) return advance(state, given);
          return oneToken.run({ ...given, keyMask, before, ...cacheTensors(caches) }, () => advance(state, given), precision);
        });
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

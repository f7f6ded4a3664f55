/** What must hold whatever the weights: padding is invisible, the future is invisible, experts and permutations behave. */
import assert from "node:assert/strict";
import { fromArray, linear, memory, native, widen, type DType, type GenerativeDecoder, type Tensor } from "../../../runtime/index.ts";
import { llamaDecoder } from "../../../plugins/decoder/llama.ts";
import { positionsOf } from "../../../plugins/decoder/positions.ts";
import { coAttention } from "../../../plugins/fusion/co-attention.ts";
import { concatenation } from "../../../plugins/fusion/concatenation.ts";
import { multiway } from "../../../plugins/fusion/multiway.ts";
import { bert } from "../../../plugins/prompt-encoder/bert.ts";
import { llamaEncoder } from "../../../plugins/text-encoder/llama.ts";
import { fill } from "./fill.ts";
import { assertClose, build, compute, context, fillParameters, ids, mask, ones, type Precision } from "./harness.ts";

const exact = 1e-12;
const input = (name: string, shape: number[], dtype: DType = "f64"): Tensor => fromArray(fill(name, shape), shape, dtype);

describe("text-encoder/llama", () => {
  const options = { vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, head_dim: 4, hidden: 24 };
  const encode = (tokens: number[], real: number, attention = "bidirectional") => {
    const encoder = build(llamaEncoder, { ...options, attention });
    fillParameters(encoder, "f64");
    return compute(() => encoder.forward({ text_ids: ids([tokens]), text_mask: mask([tokens.map((_, i) => Number(i < real))]) }, context()), encoder);
  };

  it("gives real tokens the same states whatever padding follows, and however much", async () => {
    const { states: bare } = await encode([1, 5, 7, 2], 4);
    for (const padding of [[0], [0, 0, 0, 0], [9, 3, 22]]) {
      const { states } = await encode([1, 5, 7, 2, ...padding], 4);
      assertClose(states.slice(0, 64), bare, exact, `padding ${padding}`);
    }
  });

  it("sees the future when bidirectional, and not when causal", async () => {
    const change = async (attention: string) => {
      const [a, b] = [await encode([1, 5, 7, 2], 4, attention), await encode([1, 5, 7, 3], 4, attention)];
      return Math.max(...a.states.slice(0, 48).map((x, i) => Math.abs(x - b.states[i])));
    };
    assert.ok(await change("bidirectional") > 1e-3, "the last token must reach the first");
    assert.equal(await change("causal"), 0);
  });
});

describe("fusion", () => {
  const widths = { image_width: 16, text_width: 16, width: 16, grid: 2 };
  const fuse = async (options: Record<string, unknown>, o: {
    texts?: number[]; real?: number; plugin?: typeof multiway; nameOf?: (name: string) => string; given?: Record<string, ArrayLike<number>>;
    positions?: boolean;
  } = {}) => {
    const { texts = [0, 1, 2, 3], real = texts.length, positions = true } = o;
    const fusion = build(o.plugin ?? multiway, { ...widths, ...options });
    fillParameters(fusion, "f64", { nameOf: o.nameOf, given: o.given });
    const rows = (name: string) => texts.flatMap((t) => [...fill(`${name} ${t}`, [16])]);
    return (await compute(() => fusion.forward({
      image: input("image", [1, 5, 16]), text: fromArray(rows("text"), [1, texts.length, 16], "f64"),
      text_mask: mask([texts.map((_, i) => Number(i < real))]),
      ...(positions && { image_position: input("image position", [5, 16]), text_position: fromArray(rows("position"), [1, texts.length, 16], "f64") }),
    }, context()), fusion)).memory;
  };

  const ways: [what: string, options: Record<string, unknown>, plugin: typeof multiway][] = [
    ["multiway", { heads: 2 }, multiway], ["multiway with positions in every layer", { heads: 2, position_per_layer: true }, multiway], ["co-attention", { heads: 2 }, coAttention],
  ];
  for (const [what, options, plugin] of ways) {
    it(`FU-1, INV-A3: ${what} gives real tokens the same memory whatever padding follows`, async () => {
      const bare = await fuse(options, { texts: [0, 1, 2], plugin });
      const padded = await fuse(options, { texts: [0, 1, 2, 7, 8], real: 3, plugin });
      assertClose(padded.slice(0, 8 * 16), bare, exact, "memory of real tokens");
    });

    it(`FU-2, INV-F2: ${what}, permuting text tokens with their positions permutes their memory`, async () => {
      const order = [2, 0, 3, 1];
      const [straight, permuted] = [await fuse(options, { plugin }), await fuse(options, { texts: order, plugin })];
      const row = (states: number[], i: number) => states.slice(i * 16, i * 16 + 16);
      for (let i = 0; i < 5; i++) assertClose(row(permuted, i), row(straight, i), exact, `image token ${i}`);
      order.forEach((from, i) => assertClose(row(permuted, 5 + i), row(straight, 5 + from), exact, `text token ${from} at ${i}`));
    });
  }

  it("INV-F1: with both experts equal a two-expert layer is a vision-language layer", async () => {
    const oneName = (name: string) => name.replace(/norm2_(imag|text|vl)/, "norm2").replace(/mlp_(imag|text|vl)/, "mlp");
    const two = await fuse({ heads: 2, layers: 1, vision_language_layers: 0 }, { nameOf: oneName });
    const one = await fuse({ heads: 2, layers: 1, vision_language_layers: 1 }, { nameOf: oneName });
    assertClose(two, one, exact, "memory");
    const different = await fuse({ heads: 2, layers: 1, vision_language_layers: 0 });
    assert.ok(Math.max(...different.map((x, i) => Math.abs(x - one[i]))) > 1e-4, "different experts must differ");
  });

  it("positions in every layer reach queries and keys, not values", async () => {
    const noAttention = { "fusion.blocks.0.attn.qkv.weight": new Float64Array(48 * 16).map((_, i) => (i < 32 * 16 ? 0 : fill("v", [1], 1, i % 7)[0])) };
    const one = { heads: 2, layers: 1, position_per_layer: true };
    // With queries and keys that see nothing, positions that go to them alone cannot be felt; those added to tokens can.
    const apart = await fuse(one, { given: noAttention }), none = await fuse(one, { given: noAttention, positions: false });
    assertClose(apart, none, exact, "memory");
    assert.notDeepEqual(await fuse({ ...one, position_per_layer: false }, { given: noAttention }), none);
    assert.ok(Math.max(...(await fuse(one)).map((x, i) => Math.abs(x - none[i]))) > 1e-6);
  });

  it("of one modality alone: the image as beside text that is all padding, the text through its own experts and the shared ones", async () => {
    const alone = async (modalities: "image" | "text", given: Record<string, ArrayLike<number>> = {}) => {
      const fusion = build(multiway, { ...widths, heads: 2, layers: 2, modalities });
      fillParameters(fusion, "f64", { given });
      return (await compute(() => fusion.forward(modalities === "image"
        ? { image: input("image", [1, 5, 16]), image_position: input("image position", [5, 16]) }
        : { text: input("text", [1, 3, 16]), text_mask: ones(1, 3) }, context()), fusion)).memory;
    };
    assertClose(await alone("image"), (await fuse({ heads: 2, layers: 2 }, { real: 0 })).slice(0, 80), exact, "image");
    const changed = (name: string) => ({ [`fusion.blocks.${name}.fc1.bias`]: new Float64Array(64).fill(1) });
    const text = await alone("text");
    assert.equal(text.length, 48);
    assert.deepEqual(await alone("text", changed("0.mlp_imag")), text);
    for (const expert of ["0.mlp_text", "1.mlp_vl"]) assert.notDeepEqual(await alone("text", changed(expert)), text, expert);
  });

  it("drop path changes pages while training, by their sample alone, and nothing otherwise", async () => {
    const fuseSamples = async (sampleIds: number[], training: boolean, drop_path = 0.9) => {
      const fusion = build(multiway, { ...widths, heads: 2, layers: 2, drop_path });
      fillParameters(fusion, "f64");
      const batch = sampleIds.length, same = (name: string, size: number) => sampleIds.flatMap(() => [...fill(name, [size])]);
      const { memory } = await compute(() => fusion.forward({
        image: fromArray(same("image", 80), [batch, 5, 16], "f64"), text: fromArray(same("text", 64), [batch, 4, 16], "f64"), text_mask: ones(batch, 4),
      }, context({ training, sampleIds })), fusion);
      return sampleIds.map((_, b) => memory.slice(b * 144, (b + 1) * 144));
    };
    const ids = Array.from({ length: 12 }, (_, i) => i), trained = await fuseSamples(ids, true);
    assert.ok(new Set(trained.map((page) => page.join())).size > 1, "like pages are dropped differently");
    for (const [i, page] of (await fuseSamples(ids.slice(5, 8), true)).entries()) assertClose(page, trained[5 + i], exact, `sample ${5 + i} in another batch`);
    for (const page of await fuseSamples(ids, false)) assertClose(page, (await fuseSamples([0], true, 0))[0], exact, "not training");
  });

  it("INV-F3: without layer scale it is fusion/concatenation", async () => {
    const none = Object.fromEntries([0, 1].flatMap((i) => ["gamma_1", "gamma_2"].map((g) => [`fusion.blocks.${i}.${g}`, new Float64Array(16)])));
    const flat = await fuse({ heads: 2, layers: 2 }, { given: none });
    assertClose(flat, await fuse({}, { plugin: concatenation }), exact, "memory");
  });
});

describe("prompt-encoder/bert", () => {
  const options = { vocabulary: 17, width: 12, layers: 1, heads: 2, hidden: 24, positions: 16, memory_width: 8 };
  const encode = async (tokens: number[], real: number, points: { places: number[]; kinds: number[]; real: number[] } | undefined = undefined, given = {}) => {
    const prompt = build(bert, options);
    fillParameters(prompt, "f64", { given });
    return (await compute(() => prompt.forward({
      prompt_ids: ids([tokens]), prompt_mask: mask([tokens.map((_, i) => Number(i < real))]),
      ...(points && { prompt_points: fromArray(points.places, [1, points.kinds.length, 2], "f64"), prompt_kinds: ids([points.kinds]), prompt_points_mask: mask([points.real]) }),
    }, context()), prompt)).embedding;
  };

  it("PR-1 gives the same embedding whatever padding follows, and its bias for an empty prompt", async () => {
    const bare = await encode([1, 5, 9, 2], 4);
    assertClose(await encode([1, 5, 9, 2, 0, 0, 11, 4], 4), bare, exact, "padded");
    assertClose(await encode([1, 5], 0), fill("prompt.proj.bias", [8], 0.1), exact, "empty");
  });

  it("lets points speak, and hides padded ones", async () => {
    const bare = await encode([1, 5], 2);
    const point = await encode([1, 5], 2, { places: [0.25, 0.75], kinds: [1], real: [1] });
    assert.ok(Math.max(...bare.map((x, i) => Math.abs(x - point[i]))) > 1e-3, "a point must change the embedding");
    assertClose(await encode([1, 5], 2, { places: [0.25, 0.75, 0.5, 0.5], kinds: [1, 4], real: [1, 0] }), point, exact, "padding point");
    assertClose(await encode([1, 5], 2, { places: [0.25, 0.75], kinds: [1], real: [0] }), bare, exact, "no real point");
  });

  it("a box is two points of kinds 2 and 3; boxes that are not there are not seen", async () => {
    const boxed = async (boxes: number[], real: number[]) => {
      const prompt = build(bert, options);
      fillParameters(prompt, "f64");
      return (await compute(() => prompt.forward({
        prompt_ids: ids([[1, 5]]), prompt_mask: ones(1, 2), prompt_boxes: fromArray(boxes, [1, real.length, 4], "f64"), prompt_boxes_mask: mask([real]),
      }, context()), prompt)).embedding;
    };
    const box = await boxed([0.1, 0.2, 0.3, 0.4], [1]);
    assertClose(box, await encode([1, 5], 2, { places: [0.1, 0.2, 0.3, 0.4], kinds: [2, 3], real: [1, 1] }), exact, "box");
    assertClose(await boxed([0.5, 0.5, 0.6, 0.6, 0.1, 0.2, 0.3, 0.4], [0, 1]), box, exact, "padding box");
    assertClose(await boxed([0.5, 0.5, 0.6, 0.6], [0]), await encode([1, 5], 2), exact, "no box");
  });

  it("sam_pad: a page with points and no box has one more token, which has no place", async () => {
    const asked = async (sam_pad: boolean, pointReal: number, boxReal: number) => {
      const prompt = build(bert, { ...options, sam_pad });
      fillParameters(prompt, "f64");
      return (await compute(() => prompt.forward({
        prompt_ids: ids([[1, 5]]), prompt_mask: ones(1, 2), prompt_points: fromArray([0.25, 0.75], [1, 1, 2], "f64"), prompt_kinds: ids([[1]]), prompt_points_mask: mask([[pointReal]]),
        prompt_boxes: fromArray([0.1, 0.2, 0.3, 0.4], [1, 1, 4], "f64"), prompt_boxes_mask: mask([[boxReal]]),
      }, context()), prompt)).embedding;
    };
    assertClose(await asked(true, 1, 0), await encode([1, 5], 2, { places: [0.25, 0.75, 0.9, 0.9], kinds: [1, 4], real: [1, 1] }), exact, "points alone");
    for (const [point, box] of [[1, 1], [0, 1], [0, 0]]) assertClose(await asked(true, point, box), await asked(false, point, box), exact, `${point} points, ${box} boxes`);
  });

  it("INV-P1: a projection of zeros makes prompts say nothing", async () => {
    const none = { "prompt.proj.weight": new Float64Array(96), "prompt.proj.bias": new Float64Array(8) };
    assert.deepEqual(await encode([1, 5, 9], 3, undefined, none), new Array(8).fill(0));
  });

  it("refuses a prompt longer than its positions, and points without kinds", async () => {
    await assert.rejects(encode(new Array(17).fill(1), 17), { code: "ERR_SHAPE", message: /at most 16 tokens per prompt/ });
    const prompt = build(bert, options);
    fillParameters(prompt, "f64");
    await assert.rejects(compute(() => prompt.forward({ prompt_ids: ids([[1]]), prompt_mask: ones(1, 1), prompt_points: input("p", [1, 1, 2]) }, context()), prompt),
      { code: "ERR_RECIPE", message: /together or none/ });
  });
});

describe("decoder/llama", () => {
  const options = { memory_width: 12, vocabulary: 23, width: 16, layers: 2, heads: 4, kv_heads: 2, hidden: 24 };
  const tinyDecoder = (dtype: Precision, more: Record<string, unknown> = {}) => {
    const decoder = build<GenerativeDecoder>(llamaDecoder, { ...options, ...more });
    fillParameters(decoder, dtype);
    return decoder;
  };

  it("DE-1 counts real keys only", async () => {
    const { first, later } = await compute(() => ({
      first: positionsOf(mask([[0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1]])),
      later: positionsOf(mask([[1, 0, 1]]), fromArray([7], [1, 1])),
    }));
    assert.deepEqual(first, [0, 0, 0, 1, 1, 2, 0, 1, 2, 2, 2, 2, 0, 0, 0, 1, 1, 2]);
    assert.deepEqual(later, [7, 7, 8]);
  });

  it("DE-2 gives real tokens the same states whatever padding stands in the memory or after the answer", async () => {
    const decode = async (memoryRows: number[], answer: number[], answerReal: number) => {
      const decoder = tinyDecoder("f64");
      const values = memoryRows.flatMap((row) => [...fill(row < 0 ? `junk ${row}` : `row ${row}`, [12])]);
      return (await compute(() => decoder.forward({
        memory: fromArray(values, [1, memoryRows.length, 12], "f64"), memory_mask: mask([memoryRows.map((row) => Number(row >= 0))]),
        dec_ids: ids([answer]), dec_mask: mask([answer.map((_, i) => Number(i < answerReal))]),
      }, context()), decoder)).hidden;
    };
    const bare = await decode([0, 1, 2], [1, 5, 7, 2], 4);
    for (const rows of [[0, 1, 2, -1, -2], [-1, 0, 1, 2], [0, -3, 1, -4, 2, -5]]) {
      assertClose((await decode(rows, [1, 5, 7, 2, 0, 0], 4)).slice(0, 64), bare, exact, `memory rows ${rows}`);
    }
  });

  it("never looks ahead", async () => {
    const decode = async (last: number) => {
      const decoder = tinyDecoder("f64");
      return (await compute(() => decoder.forward({ memory: input("memory", [1, 3, 12]), memory_mask: ones(1, 3), dec_ids: ids([[1, 5, last]]), dec_mask: ones(1, 3) }, context()), decoder)).hidden;
    };
    const [a, b] = [await decode(4), await decode(9)];
    assert.deepEqual(a.slice(0, 32), b.slice(0, 32));
    assert.notDeepEqual(a.slice(32), b.slice(32));
  });

  const baseSize = 23 * 16 + 2 * (16 * 4 * 12 + 3 * 16 * 24 + 32) + 16;
  const variants: [what: string, options: Record<string, unknown>][] = [
    ["plain", {}], ["a head of its own, llama3 positions, adapters", {
      tied: false, rope_scaling: { type: "llama3", factor: 4, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 }, lora: { r: 2, alpha: 4, targets: ["q_proj", "up_proj", "embed_tokens"] } }],
    ["two learned queries in place of the memory", { memory_width: 16, max_prefix: 2 }], ["a window of three", { window: 3 }],
    ["the text encoder's weights", { share_base_with_text: true, lora: { r: 2, alpha: 4 } }],
  ];
  for (const [what, more] of variants) for (const { dtype, tolerance } of [{ dtype: "f64", tolerance: 1e-12 }, { dtype: "f32", tolerance: 1e-5 }, { dtype: "bf16", tolerance: 0.02 }] as const) {
    it(`INV-D1, DE-3 generates token by token what one forward gives, in ${dtype}, rows of different length: ${what}`, async () => {
      const before = memory().tensors;
      const decoder = tinyDecoder(dtype === "f64" ? "f64" : "f32", more), told = context({ precision: dtype === "bf16" ? "bf16" : "f32" }), wide = more.memory_width as number ?? 12;
      const shared = (): Record<string, Tensor> => (more.share_base_with_text ? { base: fromArray(fill("base", [baseSize], 0.2), [baseSize], dtype === "f64" ? "f64" : "f32") } : {});
      // Two questions of 4 and 2 tokens, then three answer tokens each; row 1 of the memory has a padded slot.
      const question = [[1, 5, 7, 6], [1, 6, 0, 0]], answers = [[11, 12, 13], [14, 15, 16]];
      const given = () => ({
        memory: input("memory", [2, 3, wide], dtype), memory_mask: mask([[1, 1, 1], [1, 0, 1]]), prompt: input("prompt", [2, wide], dtype), ...shared(),
      });

      const generated: number[][][] = [];
      let state = await withTensors(given, (inputs) => decoder.begin(inputs, told));
      for (const step of [question.flat(), ...[0, 1, 2].map((i) => answers.map((row) => row[i]))]) {
        const logits = decoder.next(state, Int32Array.from(step));
        assert.equal(logits.dtype, dtype === "bf16" ? "f32" : dtype);
        const values = Array.from(await logits.readNumbers());
        logits.dispose();
        generated.push([values.slice(0, 23), values.slice(23)]);
        const before = state; // DE-5: a branch goes on without the one it came from
        state = decoder.branch(before, [0, 1]);
        decoder.end(before);
      }
      assert.equal(decoder.hidden!(state).shape.join(), "2,16");
      decoder.end(state);

      for (const [row, length] of [[0, 4], [1, 2]]) {
        const whole = [...question[row].slice(0, length), ...answers[row]];
        const { logits } = await compute(() => {
          const all = given();
          const oneRow = (name: "memory" | "prompt") => fromArray([...fill(name, all[name].shape)].slice(row * all[name].size / 2, (row + 1) * all[name].size / 2), [1, ...all[name].shape.slice(1)], dtype);
          const { hidden, embedding } = decoder.forward({
            memory: oneRow("memory"), memory_mask: mask([row === 0 ? [1, 1, 1] : [1, 0, 1]]), prompt: oneRow("prompt"),
            dec_ids: ids([whole]), dec_mask: ones(1, whole.length), ...shared(),
          }, told);
          return { logits: linear(widen(hidden), embedding) };
        });
        generated.forEach((step, i) => assertClose(step[row], logits.slice((length - 1 + i) * 23, (length + i) * 23), tolerance, `row ${row}, step ${i}`));
      }
      for (const parameter of Object.values(decoder.parameters())) parameter.release();
      assert.equal(memory().tensors, before, "everything that generation made was freed");
    });
  }

  // Without a window 59 tokens until the first 64 places are full, then 10 behind them; with one all caches have the same room. Of each room the first three are run or recorded.
  for (const { window, tokens, recorded } of [{ window: undefined, tokens: 70, recorded: 6 }, { window: 20, tokens: 140, recorded: 3 }]) it(`DE-4 generates the same bits compiled and eagerly, past the room of its caches, and again for another page${window ? ", with a window" : ""}`, async () => {
    const before = memory().tensors, decoders = [true, false].map((compile) => {
      const decoder = build<GenerativeDecoder>(llamaDecoder, { ...options, compile, window });
      fillParameters(decoder, "f32");
      return decoder;
    });
    const device = native(), { replay } = device;
    let replays = 0;
    device.replay = (program, inputs) => (replays++, replay(program, inputs));
    for (const page of ["first", "second"]) {
      const [compiled, eager] = await Promise.all(decoders.map(async (decoder) => {
        const state = await withTensors(() => ({ memory: input(page, [1, 3, 12], "f32"), memory_mask: ones(1, 3) }), (inputs) => decoder.begin(inputs, context()));
        const logits: number[][] = [];
        for (let token = 0; token < tokens; token++) {
          const next = decoder.next(state, token === 0 ? Int32Array.of(1, 5) : Int32Array.of(1 + ((7 * token) % 22)));
          logits.push(Array.from(await next.read() as ArrayLike<number>));
          next.dispose();
        }
        decoder.end(state);
        return logits;
      }));
      assert.deepEqual(compiled, eager, page);
    }
    device.replay = replay;
    assert.equal(replays, 2 * (tokens - 1) - recorded);
    for (const decoder of decoders) for (const parameter of Object.values(decoder.parameters())) parameter.release();
    assert.equal(memory().tensors, before);
  });

  it("DE-7 a window reaches as many real keys back as it says, whatever stands between them, and no further", async () => {
    const window = 3, tokens = [1, 5, 7, 2, 9, 11];
    const states = async (o: { memory?: number[]; tokens?: number[]; layers?: number; window?: number; real?: number[] }) => {
      const decoder = tinyDecoder("f64", { window, layers: 1, ...o.layers && { layers: o.layers }, ..."window" in o && { window: o.window } }), rows = o.memory ?? [0, 1], asked = o.tokens ?? tokens;
      const values = rows.flatMap((row) => Array.from(fill(`memory ${row}`, [12])));
      const { hidden } = await compute(() => decoder.forward({
        memory: fromArray(values, [1, rows.length, 12], "f64"), memory_mask: mask([rows.map((row) => Number(row >= 0))]), dec_ids: ids([asked]), dec_mask: mask([o.real ?? asked.map(() => 1)]),
      }, context()), decoder);
      return Array.from({ length: asked.length }, (_, i) => hidden.slice(16 * i, 16 * i + 16));
    };
    // One layer: a token's state is that of a decoder without a window that is given the three last tokens alone (INV-R3: positions are relative).
    const windowed = await states({});
    for (let at = 2; at < tokens.length; at++) {
      const alone = await states({ window: undefined, memory: [-1], tokens: tokens.slice(at - 2, at + 1) });
      assertClose(windowed[at], alone[2], exact, `token ${at}`);
    }
    // Two layers reach twice as far: 2 * (3 - 1) tokens back, and not one more.
    const two = await states({ layers: 2 }), changed = await states({ layers: 2, tokens: [4, ...tokens.slice(1)] });
    assert.notDeepEqual(changed[4], two[4]);
    assert.deepEqual(changed[5], two[5]);
    // Empty places count nothing, in the memory or between tokens.
    for (const memory of [[0, -1, -2, -3, 1], [-1, 0, 1, -2]]) (await states({ memory, layers: 2 })).forEach((state, i) => assertClose(state, two[i], exact, `memory ${memory}, token ${i}`));
    const gaps = await states({ layers: 2, tokens: [1, 5, 8, 8, 7, 2, 8, 9, 11], real: [1, 1, 0, 0, 1, 1, 0, 1, 1] });
    [0, 1, 4, 5, 7, 8].forEach((at, i) => assertClose(gaps[at], two[i], exact, `gaps, token ${i}`));
  });

  it("DE-7 caches stay as large as the window, however many tokens are written", async () => {
    const start = memory().tensors, decoder = build<GenerativeDecoder>(llamaDecoder, { ...options, window: 8 });
    fillParameters(decoder, "f32");
    const state = await withTensors(() => ({ memory: input("memory", [2, 200, 12], "f32"), memory_mask: ones(2, 200) }), (inputs) => decoder.begin(inputs, context()));
    const bytes: number[] = [];
    for (let token = 0; token < 400; token++) {
      const logits = decoder.next(state, token === 0 ? Int32Array.of(1, 5, 1, -1) : Int32Array.of(5, token % 7 === 0 ? -1 : 7));
      await logits.readNumbers();
      logits.dispose();
      bytes.push(memory().bytesInUse);
    }
    assert.equal(Math.max(...bytes.slice(1)), Math.min(...bytes.slice(1)), "bytes in use after each token");
    assert.ok((state as { caches: { capacity: number }[] }).caches.every(({ capacity }) => capacity <= 128), "200 places of memory are gone");
    decoder.end(state);
    for (const parameter of Object.values(decoder.parameters())) parameter.release();
    assert.equal(memory().tensors, start);
  });

  it("refuses ids that do not fill its rows, and a hidden state before the first token", async () => {
    const decoder = tinyDecoder("f32");
    const state = await withTensors(() => ({ memory: input("memory", [2, 3, 12], "f32"), memory_mask: ones(2, 3) }), (inputs) => decoder.begin(inputs, context()));
    assert.throws(() => decoder.next(state, Int32Array.of(1, 2, 3)), { code: "ERR_SHAPE", message: /2 rows, got 3 ids/ });
    assert.throws(() => decoder.hidden!(state), { code: "ERR_INPUT", message: /Call next/ });
    decoder.end(state);
    for (const parameter of Object.values(decoder.parameters())) parameter.release();
  });
});

/** Makes tensors, uses them, frees them: the caller of `begin` owns its inputs. */
async function withTensors<T>(make: () => Record<string, Tensor>, use: (tensors: Record<string, Tensor>) => T): Promise<T> {
  const tensors = make();
  try {
    return use(tensors);
  } finally {
    for (const tensor of Object.values(tensors)) tensor.dispose();
  }
}

/**
 * The answer and where it stands: next-token cross-entropy over text and location tokens, and a regression head that reads each
 * box from the state of its `<box>` token.
 *
 *   L = CE_text + location_weight * CE_loc + 5 * L1 + 2 * (1 - GIoU)
 *
 * Text and location labels are averaged apart, boxes over boxes, each by the count of the whole batch; none gives 0. `accuracy` is the share of
 * all counted tokens, text and location, that are ranked first given those before them.
 * Sources: weights and head shape of DETR (Carion et al. 2020), GIoU of Rezatofighi et al. 2019, location tokens of Pix2Seq (Chen et al. 2022).
 */
import { z } from "zod";
import {
  add, boxGiou, boxL1, definePlugin, gatherRows, locationCrossEntropy, nn, port, relu, reshape, RuntimeError, scale, sigmoid, widen,
  type Tensor, type TensorComponent,
} from "../../runtime/index.ts";
import { labelledRows } from "./labelled-rows.ts";
import { meanWeight } from "./mean-weight.ts";
import { splitByKind } from "./split-labels.ts";

/** An objective whose box head can be asked alone. */
export type AnswerObjective = TensorComponent & Required<Pick<TensorComponent, "boxes">>;

export const answer = definePlugin({
  kind: "objective", name: "answer", version: "1.1.0",
  about: "Next-token loss over text and location tokens, plus a DETR-style box head (L1 and GIoU).",
  options: z.strictObject({
    width: z.int().positive().default(128),
    vocabulary: z.int().positive().default(2048),
    location_base: z.int().nonnegative().default(16),
    location_bins: z.int().positive().default(128),
    location_weight: z.number().nonnegative().default(1),
    /** Above 0: a location's truth is a bell over the bins around it, so wide, in bins; a near miss costs less than a far one. */
    location_sigma: z.number().nonnegative().default(0),
    l1_weight: z.number().nonnegative().default(5),
    giou_weight: z.number().nonnegative().default(2),
  }),
  counts: ["answer_text_tokens", "answer_loc_tokens", "boxes"],
  ports: ({ width, vocabulary }) => ({
    in: {
      hidden: port(["B", "A", width]), embedding: port([vocabulary, width]),
      // Either next-token labels of all positions (-100: not counted), or the flat positions b * A + a of the counted ones and their labels.
      labels: port(["B", "A"], { dtype: "i32", optional: true }),
      dec_index: port(["Na"], { dtype: "i32", optional: true }), dec_targets: port(["Na"], { dtype: "i32", optional: true }),
      // One row per <box> token: its truth (cx, cy, w, h), and its flat position b * A + a.
      box_targets: port(["K", 4], { gradient: false }), box_index: port(["K"], { dtype: "i32" }),
    },
    out: {
      loss: port([1]), text_loss: port([1], { gradient: false }), loc_loss: port([1], { gradient: false }),
      l1_loss: port([1], { gradient: false }), giou_loss: port([1], { gradient: false }),
      accuracy: port([1], { gradient: false }),
    },
  }),
  tensor: ({ vocabulary }) => ({ divides: { vocabulary } }),
  create({ width, location_base, location_bins, location_weight, location_sigma, l1_weight, giou_weight }): AnswerObjective {
    // Uniform in +-1 / sqrt(inputs), as DETR's head starts.
    const layer = (out: number) => nn.linear({ in: width, out, init: { kind: "uniform", bound: width ** -0.5 } });
    const layers = [layer(width), layer(width), layer(4)];
    const parameters = nn.collect({ "head.box.0": layers[0], "head.box.1": layers[1], "head.box.2": layers[2] });
    // In f32 whatever the precision: bf16 places a corner to the nearest of 256 to 512 lines of the page.
    const boxes = (hidden: Tensor) => {
      const first = relu(layers[0].forward(widen(hidden)));
      return sigmoid(layers[2].forward(relu(layers[1].forward(first))));
    };
    const locations = { from: location_base, to: location_base + location_bins };

    return {
      parameters: () => parameters,
      boxes,
      // hidden (B, A, D), embedding (V, D), Na counted positions, K boxes -> loss and its four parts, accuracy (1)
      forward: ({ hidden, embedding, labels, dec_index, dec_targets, box_targets, box_index }, { counts, members }) => {
        const { rows, targets } = labelledRows("objective/answer", hidden,
          { labels, index: dec_index, targets: dec_targets }, ["labels", "dec_index", "dec_targets"]);
        const words = nn.vocabularyHead(members), logits = words.logits(rows, embedding);
        const { text, location } = splitByKind(targets, locations);
        const textLoss = words.crossEntropy(logits, text, { weight: meanWeight(counts, "answer_text_tokens") });
        if (location_sigma > 0 && members) throw new RuntimeError("ERR_RECIPE", "objective/answer: location_sigma compares neighbouring bins, and a tensor group holds a share of them. Leave location_sigma or the group out.", { location_sigma });
        const perLocation = { weight: meanWeight(counts, "answer_loc_tokens") };
        const locationLoss = location_sigma === 0 ? words.crossEntropy(logits, location, perLocation)
          : locationCrossEntropy(logits, location, { ...perLocation, first: location_base, bins: location_bins, sigma: location_sigma });
        const predicted = boxes(gatherRows(reshape(hidden, [hidden.shape[0] * hidden.shape[1], width]), box_index));
        const perBox = meanWeight(counts, "boxes");
        const perToken = meanWeight({ tokens: counts.answer_text_tokens + counts.answer_loc_tokens }, "tokens");
        const l1 = boxL1(predicted, box_targets, { weight: perBox });
        const giou = boxGiou(predicted, box_targets, { weight: perBox });
        const tokenLoss = add(textLoss, scale(locationLoss, location_weight));
        return {
          loss: add(tokenLoss, add(scale(l1, l1_weight), scale(giou, giou_weight))),
          text_loss: textLoss, loc_loss: locationLoss, l1_loss: l1, giou_loss: giou, accuracy: words.correct(logits, targets, perToken),
        };
      },
      targets: ({ labels, dec_targets }) => dec_targets ?? reshape(labels, [labels.size]),
    };
  },
});

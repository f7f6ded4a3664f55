/**
 * Scores of answers with boxes: ANLS, exact match and token F1 of the text, overlap of the boxes, exact key information.
 * Every score is a share in [0, 1] (multiply EM and F1 by 100 to compare with SQuAD tables); over nothing it is 0.
 */
import { z } from "zod";
import { definePlugin, type Evaluator } from "../../runtime/index.ts";
import { iou, matchedIou } from "./boxes.ts";
import { KeyInformation } from "./key-information.ts";
import { anls, exactMatch, tokenF1 } from "./text-match.ts";

export const answers = definePlugin({
  kind: "evaluator", name: "answers", version: "1.0.0",
  about: "ANLS, exact match, token F1, box IoU and exact key information. Sources: DocVQA, SQuAD 2.0, SROIE task 3.",
  options: z.strictObject({
    /** Below this similarity an answer counts nothing for ANLS. */
    threshold: z.number().min(0).max(1).default(0.5),
  }),
  create: ({ threshold }) => createAnswerScores(threshold),
});

/** `result`: examples, anls, exact_match, token_f1, box_iou and box_found (IoU of at least 0.5) over references with boxes, kie_precision, kie_recall, kie_f1. */
export function createAnswerScores(threshold = 0.5): Evaluator {
  const sums = { examples: 0, anls: 0, exact_match: 0, token_f1: 0, boxed: 0, box_iou: 0, box_found: 0 };
  const fields = new KeyInformation();
  return {
    add(prediction, reference) {
      sums.examples++;
      sums.anls += anls(prediction.text, [reference.answer], threshold);
      sums.exact_match += exactMatch(prediction.text, [reference.answer]);
      sums.token_f1 += tokenF1(prediction.text, [reference.answer]);
      fields.add(reference.field ?? "answer", prediction.text, reference.answer);
      if (reference.boxes.length === 0) return;
      sums.boxed++;
      sums.box_iou += matchedIou(prediction.boxes, reference.boxes);
      sums.box_found += reference.boxes.filter((box) => prediction.boxes.some((other) => iou(box, other) >= 0.5)).length / reference.boxes.length;
    },
    result() {
      const mean = (sum: number, count: number) => (count > 0 ? sum / count : 0);
      const { precision, recall, f1 } = fields.micro();
      return {
        examples: sums.examples,
        anls: mean(sums.anls, sums.examples), exact_match: mean(sums.exact_match, sums.examples), token_f1: mean(sums.token_f1, sums.examples),
        boxed_examples: sums.boxed, box_iou: mean(sums.box_iou, sums.boxed), box_found: mean(sums.box_found, sums.boxed),
        kie_precision: precision, kie_recall: recall, kie_f1: f1,
      };
    },
  };
}

/**
 * Key information of receipts as questions: company, date, address, total.
 * The answer is the field's text, with the box of the words it stands in where they can be found.
 * Questions that share a field are wordings of one question; the first is the one to evaluate with.
 * Source: Huang et al. 2019, ICDAR SROIE, task 3.
 */
import { z } from "zod";
import { definePlugin, type Box, type PageRecord, type Question, type Task } from "../../runtime/index.ts";
import { findEvidence, receiptFields, type ReceiptField } from "./evidence.ts";

/** Several wordings, so that the model learns the question and not one string. */
export const receiptPrompts: Readonly<Record<ReceiptField, readonly string[]>> = {
  company: ["what is the company?", "who issued this receipt?", "which company is it?"],
  date: ["what is the date?", "when was it issued?", "which date is on the receipt?"],
  address: ["what is the address?", "where is the company?", "which address is on the receipt?"],
  total: ["what is the total?", "how much was paid?", "what is the total amount?"],
};

export const receiptTask = definePlugin({
  kind: "task", name: "receipt-fields", version: "1.0.0",
  about: "Company, date, address and total of a receipt, asked as questions. Source: ICDAR 2019 SROIE, task 3.",
  options: z.strictObject({
    fields: z.array(z.enum(receiptFields)).nonempty().default([...receiptFields]),
    /** false: one wording per field. */
    wordings: z.boolean().default(true),
  }),
  create: ({ fields, wordings }): Task => ({
    questions: (page) => receiptQuestions(page, fields, wordings),
  }),
});

/** A page without `meta.entities` has no questions. */
function receiptQuestions(page: PageRecord, fields: readonly ReceiptField[], wordings: boolean): Question[] {
  const entities = (page.meta.entities ?? {}) as Partial<Record<string, string>>;
  const evidence = findEvidence(page.words, entities);
  return fields.flatMap((field) => {
    const answer = entities[field];
    if (typeof answer !== "string" || answer.trim() === "") return [];
    const run = evidence.get(field);
    const boxes = run ? [union(page.words.slice(run[0], run[1]).map((word) => word.box))] : [];
    return receiptPrompts[field].slice(0, wordings ? undefined : 1).map((prompt) => ({ prompt, answer, boxes, field }));
  });
}

function union(boxes: readonly Box[]): Box {
  return [
    Math.min(...boxes.map((b) => b[0])), Math.min(...boxes.map((b) => b[1])),
    Math.max(...boxes.map((b) => b[2])), Math.max(...boxes.map((b) => b[3])),
  ];
}

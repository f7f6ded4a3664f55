/**
 * Rows into the padded tensors of one microbatch. T, Q and A are the longest row rounded up to a multiple of 8.
 *
 * B-1: padding has mask 0, id `<pad>`, label -100, box 0; it carries nothing.
 * B-2: flat indices (`mlm_index`, `mim_index`, `dec_index`, `box_index`) ascend and count within the microbatch.
 */
import type { HostMicrobatch, HostTensor } from "../../runtime/index.ts";
import { f32, i32, padded, u8 } from "./host-tensors.ts";
import { normalise } from "./pixels.ts";
import type { DialogueText, PageText, UnitBox } from "./tokens.ts";

export interface PageRow {
  key: string;
  sampleId: number;
  rgb: Uint8Array;
  text: PageText;
}

/** A page with parts hidden: `ids` are the corrupted ones, `hidden` says where, `text.ids` what stood there. */
export interface JointRow extends PageRow {
  ids: number[];
  hidden: Uint8Array;
  /** 1 per hidden patch, and per hidden cell of merge x merge patches. */
  patchMask: Uint8Array;
  cellMask: Uint8Array;
  alignment: Int32Array;
}

export interface AnswerRow extends PageRow { dialogue: DialogueText }

export interface PageShape { side: number; grid: number; padId: number }

export function collateJoint(rows: readonly JointRow[], shape: PageShape): { microbatch: HostMicrobatch; counts: Record<string, number> } {
  const T = padded(rows.map((row) => row.ids.length));
  const cells: number[] = [];
  const labels = new Int32Array(rows.length * T).fill(-100);
  const alignment = new Int32Array(rows.length * T).fill(-100);
  const index: number[] = [], targets: number[] = [];
  let patches = 0;
  rows.forEach((row, b) => {
    alignment.set(row.alignment, b * T);
    row.hidden.forEach((hidden, t) => {
      if (!hidden) return;
      labels[b * T + t] = row.text.ids[t];
      index.push(b * T + t);
      targets.push(row.text.ids[t]);
    });
    row.cellMask.forEach((hidden, cell) => { if (hidden) cells.push(b * row.cellMask.length + cell); });
    patches += row.patchMask.reduce((n, hidden) => n + hidden, 0);
  });
  const tensors = {
    ...pageTensors(rows, rows.map((row) => row.ids), rows.map((row) => row.patchMask), T, shape),
    mlm_labels: i32(labels, [rows.length, T]),
    wpa_labels: i32(alignment, [rows.length, T]),
    mlm_index: i32(index), mlm_targets: i32(targets), mim_index: i32(cells),
  };
  return {
    microbatch: microbatch(rows, tensors),
    counts: { pages: rows.length, mlm_tokens: index.length, mim_patches: patches, wpa_tokens: alignment.reduce((n, label) => n + Number(label !== -100), 0) },
  };
}

export function collateAnswer(rows: readonly AnswerRow[], shape: PageShape & { promptPadId: number; isLocation(id: number): boolean }): { microbatch: HostMicrobatch; counts: Record<string, number> } {
  const B = rows.length;
  const T = padded(rows.map((row) => row.text.ids.length));
  const Q = padded(rows.map((row) => row.dialogue.promptIds.length));
  const A = padded(rows.map((row) => row.dialogue.ids.length));
  const promptIds = new Int32Array(B * Q).fill(shape.promptPadId), promptMask = new Uint8Array(B * Q);
  const ids = new Int32Array(B * A).fill(shape.padId), mask = new Uint8Array(B * A), labels = new Int32Array(B * A).fill(-100);
  const index: number[] = [], targets: number[] = [], boxIndex: number[] = [], boxes: number[] = [];
  rows.forEach(({ dialogue }, b) => {
    promptIds.set(dialogue.promptIds, b * Q);
    promptMask.fill(1, b * Q, b * Q + dialogue.promptIds.length);
    ids.set(dialogue.ids, b * A);
    mask.fill(1, b * A, b * A + dialogue.ids.length);
    labels.set(dialogue.labels, b * A);
    dialogue.labels.forEach((label, a) => { if (label !== -100) index.push(b * A + a), targets.push(label); });
    for (const { position, box } of dialogue.boxes) boxIndex.push(b * A + position), boxes.push(...centred(box));
  });
  const nothingHidden = new Uint8Array(shape.grid * shape.grid);
  const tensors = {
    ...pageTensors(rows, rows.map((row) => row.text.ids), rows.map(() => nothingHidden), T, shape),
    prompt_ids: i32(promptIds, [B, Q]), prompt_mask: u8(promptMask, [B, Q]),
    dec_ids: i32(ids, [B, A]), dec_mask: u8(mask, [B, A]), dec_labels: i32(labels, [B, A]),
    dec_index: i32(index), dec_targets: i32(targets),
    box_targets: f32(Float32Array.from(boxes), [boxIndex.length, 4]), box_index: i32(boxIndex),
  };
  const locations = targets.filter(shape.isLocation).length;
  return {
    microbatch: microbatch(rows, tensors),
    counts: { pages: B, answer_text_tokens: targets.length - locations, answer_loc_tokens: locations, boxes: boxIndex.length },
  };
}

function pageTensors(rows: readonly PageRow[], ids: readonly number[][], patchMasks: readonly Uint8Array[], T: number, { side, grid, padId }: PageShape): Record<string, HostTensor> {
  const B = rows.length, P = grid * grid, plane = 3 * side * side;
  const pixels = new Float32Array(B * plane), patchMask = new Uint8Array(B * P);
  const textIds = new Int32Array(B * T).fill(padId), textMask = new Uint8Array(B * T), hasBox = new Uint8Array(B * T), boxes = new Float32Array(B * T * 4);
  rows.forEach((row, b) => {
    normalise(row.rgb, side, pixels, b * plane);
    patchMask.set(patchMasks[b], b * P);
    textIds.set(ids[b], b * T);
    textMask.fill(1, b * T, b * T + ids[b].length);
    row.text.boxes.forEach((box, t) => {
      if (!box) return;
      hasBox[b * T + t] = 1;
      boxes.set(box, 4 * (b * T + t));
    });
  });
  return {
    pixels: f32(pixels, [B, 3, side, side]), patch_mask: u8(patchMask, [B, P]),
    text_ids: i32(textIds, [B, T]), text_mask: u8(textMask, [B, T]), text_boxes: f32(boxes, [B, T, 4]), has_box: u8(hasBox, [B, T]),
  };
}

function microbatch(rows: readonly PageRow[], tensors: Record<string, HostTensor>): HostMicrobatch {
  return { tensors, sampleIds: rows.map((row) => row.sampleId), keys: rows.map((row) => row.key) };
}

/** Corners -> centre and size, which is what the box head predicts. */
function centred([x0, y0, x1, y1]: UnitBox): number[] {
  return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0];
}

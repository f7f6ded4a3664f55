/**
 * A page record as it stands in a shard or beside an image, read with care: JSON from anywhere -> `PageRecord`.
 *
 * boxes outside the page are clamped, swapped corners put in order, and both are counted; text never changes.
 * what cannot be repaired (broken JSON, a box that is no four numbers) is ERR_DATA naming file, member and place.
 * a page without words, or without any of the optional lists, is a page.
 */
import { z } from "zod";
import { RuntimeError } from "../../runtime/index.ts";
import type { Box, PageRecord } from "../../runtime/index.ts";
import { pageSide, toFrame } from "./frame.ts";

/** Where a piece of data came from; every complaint about data carries one. */
export interface Place {
  file: string;
  /** Tar member or page, when the file holds several. */
  member?: string;
}

export function place(at: Place): string {
  return at.member === undefined ? at.file : `${at.file}: ${at.member}`;
}

export function dataError(at: Place, problem: string, fix: string, cause?: unknown): RuntimeError {
  return new RuntimeError("ERR_DATA", `${place(at)}: ${problem}. ${fix}`, { ...at, problem }, cause === undefined ? undefined : { cause });
}

const corners = z.array(z.number()).length(4);
const confidence = z.number().min(0).max(1).optional();
const recordSchema = z.object({
  docId: z.string().optional(),
  page: z.int().min(0).default(0),
  source: z.string().default("unknown"),
  origSize: z.tuple([z.number().positive(), z.number().positive()]).optional(),
  words: z.array(z.object({ text: z.string(), box: corners, conf: confidence, line: z.int().min(0).optional() })).default([]),
  lines: z.array(z.object({ text: z.string(), box: corners, conf: confidence })).default([]),
  regions: z.array(z.object({ label: z.string(), box: corners, score: z.number().optional() })).default([]),
  meta: z.record(z.string(), z.unknown()).default({}),
});

export interface ReadRecord {
  page: PageRecord;
  /** Boxes that lay outside the page and were clamped. */
  clamped: number;
}

/** `docId` stands in when the record does not name its document. Throws ERR_DATA. */
export function readRecord(bytes: Uint8Array, at: Place, docId: string): ReadRecord {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw dataError(at, `broken JSON (${(cause as Error).message})`, "Expected a page record: {words: [{text, box: [x0, y0, x1, y1] in [0, 1024]}], ...}", cause);
  }
  const parsed = recordSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw dataError(at, `not a page record: ${issue.path.join(".") || "top level"}: ${issue.message}`,
      "Expected {words: [{text, box: [x0, y0, x1, y1] in [0, 1024]}], lines?, regions?, origSize?, meta?}");
  }
  let clamped = 0;
  const inFrame = <T extends { box: number[] }>(item: T): Omit<T, "box"> & { box: Box } => {
    const framed = toFrame(item.box, pageSide, pageSide);
    if (framed.clamped) clamped++;
    return { ...item, box: framed.box };
  };
  const record = parsed.data;
  const page: PageRecord = {
    docId: record.docId ?? docId,
    page: record.page,
    source: record.source,
    origSize: record.origSize ?? [pageSide, pageSide],
    words: record.words.map(inFrame).filter((word) => word.text.trim() !== ""),
    lines: record.lines.map(inFrame),
    regions: record.regions.map(inFrame),
    meta: record.meta,
  };
  return { page, clamped };
}

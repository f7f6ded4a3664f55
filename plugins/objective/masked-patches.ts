/**
 * What masked image modelling is asked, whatever the answer: the states of masked cells, from one branch or two, through a head each.
 * With `merge` m a cell of the memory is m x m patches; a head answers for all of them, row by row.
 */
import { z } from "zod";
import { cast, gatherRows, nn, permute, port, reshape, slice, type Port, type Tensor } from "../../runtime/index.ts";

/** Options that every such objective has. */
export const maskedPatchesOptions = {
  width: z.int().positive().default(96),
  /** Cells per side of the memory. */
  grid: z.int().positive().default(8),
  /** Patches per side of a cell. */
  merge: z.int().positive().default(1),
  weight: z.number().nonnegative().default(1),
  /** Whose states are read: the fusion's (the head is `head.mim.out`), or the image encoder's (`vision.lm_head`). */
  states: z.enum(["fusion", "vision"]).default("fusion"),
  /** Read the image encoder's second branch as well, weighted alike; `shared_head: false` gives it a head of its own. */
  cls_pt: z.boolean().default(false),
  shared_head: z.boolean().default(true),
};

export interface MaskedPatchesOptions { width: number; grid: number; merge: number; states: "fusion" | "vision"; cls_pt: boolean; shared_head: boolean }

/** Patches per page. */
export const patchesOf = ({ grid, merge }: { grid: number; merge: number }): number => (grid * merge) ** 2;

export function maskedPatchesPorts({ width, grid, cls_pt }: MaskedPatchesOptions): Record<string, Port> {
  return {
    memory: port(["B", "M", width]),
    // Flat positions b * grid² + cell of the masked cells.
    mim_index: port(["Np"], { dtype: "i32" }),
    ...(cls_pt && { cls_pt_states: port(["B", 1 + grid * grid, width]) }),
  };
}

/** The scalars: what each branch cost, when there are two. */
export const branchPorts = ({ cls_pt }: { cls_pt: boolean }): Record<string, Port> =>
  (cls_pt ? { main_loss: port([1], { gradient: false }), cls_pt_loss: port([1], { gradient: false }) } : {});

export interface MaskedPatches extends nn.Module {
  /** One answer (Np * merge², out) per branch, the main one first. */
  answers(inputs: Record<string, Tensor>): Tensor[];
}

export function maskedPatches({ width, grid, merge, states, cls_pt, shared_head }: MaskedPatchesOptions, out: number): MaskedPatches {
  const head = () => nn.linear({ in: width, out: merge * merge * out });
  const main = head(), branch = cls_pt && !shared_head ? head() : undefined;
  const parameters = nn.collect(states === "fusion" ? { "head.mim.out": main, "head.mim.cls_pt_out": branch } : { "vision.lm_head": main, "vision.cls_pt_lm_head": branch });
  const answer = (memory: Tensor, index: Tensor, through: nn.Layer): Tensor => {
    const cells = reshape(slice(memory, 1, 1, grid * grid), [memory.shape[0] * grid * grid, width]);
    return reshape(through.forward(gatherRows(cells, index)), [index.size * merge * merge, out]);
  };
  return {
    parameters: () => parameters,
    answers: ({ memory, mim_index, cls_pt_states }) => [
      answer(memory, mim_index, main),
      ...(cls_pt ? [answer(cls_pt_states, mim_index, branch ?? main)] : []),
    ],
  };
}

/** What belongs to the patches of masked cells: values (B, P, C), patch by patch in reading order -> (Np * merge², C), in the order of the answers. */
export function ofMaskedCells(values: Tensor, index: Tensor, { grid, merge }: { grid: number; merge: number }): Tensor {
  const [batch, , columns] = values.shape;
  const cells = permute(reshape(values, [batch * grid, merge, grid, merge, columns]), [0, 2, 1, 3, 4]);
  return reshape(gatherRows(reshape(cells, [batch * grid * grid, merge * merge * columns]), index), [index.size * merge * merge, columns]);
}

/** The same of codes i32 (B, P) -> i32 (Np * merge²). Rows are gathered in f32, in which codes, integers below 2^24, are exact. */
export function codesOfMaskedCells(codes: Tensor, index: Tensor, o: { grid: number; merge: number }): Tensor {
  const rows = ofMaskedCells(reshape(cast(codes, "f32"), [...codes.shape, 1]), index, o);
  return cast(reshape(rows, [rows.size]), "i32");
}

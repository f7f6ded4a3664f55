import { RuntimeError, ShapeError } from "../../errors.ts";
import { type DType, type Shape, type Tensor, sizeOf } from "../../tensor/index.ts";
import type { GroupOffer, SeatOptions } from "./collectives.ts";

const refuse = (name: string, wrong: string, details: Record<string, unknown> = {}): never => {
  throw new RuntimeError("ERR_COLLECTIVE", `group ${name}: ${wrong}`, { group: name, ...details });
};

export function checkMember({ name, rank, size, members, engine }: SeatOptions): void {
  if (engine !== "embedded") refuse(name, `engine "${engine}" does not exist in this version. Use "embedded": shared memory on a host, TCP between hosts.`, { engine });
  if (!Number.isInteger(size) || size < 1 || size > 1024) refuse(name, `size is 1 to 1024, got ${size}.`, { size });
  if (!Number.isInteger(rank) || rank < 0 || rank >= size) refuse(name, `rank is 0 to ${size - 1}, got ${rank}.`, { rank });
  if (members.length !== size) refuse(name, `${size} members expected by name, got ${members.length}: ${members.join(", ")}.`, { members });
}

/** All offers are there, in rank order, and fit the seat and each other. */
export function checkOffers(own: GroupOffer, members: readonly string[], offers: readonly GroupOffer[]): void {
  if (offers.length !== own.size) refuse(own.name, `${own.size} offers expected, got ${offers.length}.`);
  const seen = new Map<string, number>();
  offers.forEach((offer, rank) => {
    const who = `offer ${rank}, of ${offer.member} on host ${offer.host},`;
    if (offer.rank !== rank || offer.name !== own.name || offer.size !== own.size || offer.member !== members[rank]) {
      refuse(own.name, `${who} is for rank ${offer.rank} of ${offer.size} of group ${offer.name}; expected rank ${rank} of ${own.size}, ${members[rank]}. Carry all offers to all members, in rank order.`);
    }
    const process = `${offer.place.host} ${offer.pid}`;
    if (seen.has(process)) refuse(own.name, `${who} lives in the same process as rank ${seen.get(process)}. A process takes one seat of a group: its calls run one after the other.`);
    seen.set(process, rank);
    const remote = offer.place.host !== own.place.host || offer.place.user !== own.place.user;
    if (remote && (offer.address === "" || own.address === "")) {
      refuse(own.name, `rank ${rank} (${offer.member} on host ${offer.host}) and rank ${own.rank} (${own.member} on host ${own.host}) share no memory, and ${offer.address === "" ? offer.member : own.member} offered no address. Give \`address\`.`);
    }
  });
}

const summed: readonly DType[] = ["f64", "f32", "bf16", "i64", "i32"];

export function summable(op: string, { dtype }: Tensor): void {
  if (!summed.includes(dtype)) throw new RuntimeError("ERR_DTYPE", `${op}: expected ${summed.join(", ")}, got ${dtype}.`, { op, dtype });
}

/** The shape with its `axis` resized, and the product of the dimensions before that. Negative axes count from the end. */
export function shapeWithAxis(op: string, { shape }: Tensor, axis: number, resize: (n: number) => number): { shape: Shape; rows: number } {
  const at = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(at) || at < 0 || at >= shape.length) {
    throw new ShapeError({ op, operand: "tensor", expected: `an axis ${axis}`, got: shape, fix: `Axes are ${-shape.length} to ${shape.length - 1}.` });
  }
  const resized = resize(shape[at]);
  if (!Number.isInteger(resized)) {
    throw new ShapeError({ op, operand: "tensor", expected: `a dimension ${at} that the members divide evenly`, got: shape, fix: "Pad it, or choose another axis." });
  }
  return { shape: shape.with(at, resized), rows: sizeOf(shape.slice(0, at)) };
}

/** A slice begins on a cache line, so that two of them never share one. */
const alignment = 64;

/**
 * Divides one slab into slices: the first gap that fits, lowest offset first, so that the pages touched stay few.
 * Neighbouring gaps are one gap. Hundreds of slices at most live at once, so a list is fast enough.
 */
export class SliceAllocator {
  #gaps: { offset: number; bytes: number }[];
  #taken = new Map<number, number>();

  constructor(readonly bytes: number) {
    this.#gaps = [{ offset: 0, bytes }];
  }

  get bytesTaken(): number {
    return [...this.#taken.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** The offset of a slice of at least `bytes`, or undefined when no gap is large enough. */
  take(bytes: number): number | undefined {
    const index = this.#gaps.findIndex((gap) => gap.bytes >= bytes);
    if (index < 0) return undefined;
    const gap = this.#gaps[index];
    const rounded = Math.min(gap.bytes, Math.ceil(bytes / alignment) * alignment);
    this.#taken.set(gap.offset, rounded);
    const { offset } = gap;
    if (rounded === gap.bytes) this.#gaps.splice(index, 1);
    else this.#gaps[index] = { offset: offset + rounded, bytes: gap.bytes - rounded };
    return offset;
  }

  /** Returns the slice that `take` gave at this offset. */
  give(offset: number): void {
    const bytes = this.#taken.get(offset);
    if (bytes === undefined) throw new RangeError(`no slice is taken at offset ${offset}`);
    this.#taken.delete(offset);
    const at = this.#gaps.findIndex((gap) => gap.offset > offset);
    const index = at < 0 ? this.#gaps.length : at;
    this.#gaps.splice(index, 0, { offset, bytes });
    this.#merge(index);
    if (index > 0) this.#merge(index - 1);
  }

  #merge(index: number): void {
    const [gap, next] = [this.#gaps[index], this.#gaps[index + 1]];
    if (next && gap.offset + gap.bytes === next.offset) {
      this.#gaps.splice(index, 2, { offset: gap.offset, bytes: gap.bytes + next.bytes });
    }
  }
}

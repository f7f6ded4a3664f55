/**
 * Who of the data copies owns which tensor (ZeRO; Rajbhandari et al. 2020): the owner keeps what the others do without.
 *
 * ZS-1: whole tensors are owned, so that the arithmetic of a step is that of one process, tensor by tensor.
 * ZS-2: the largest first, each to the copy that owns least so far; equal ones by name, to the first copy. Every rank computes the same.
 */

/** Numbers per tensor, by name -> the owning copy, by name. */
export function shareOut(sizes: Iterable<readonly [name: string, size: number]>, copies: number): Map<string, number> {
  const owners = new Map<string, number>(), owned = new Array<number>(copies).fill(0);
  for (const [name, size] of [...sizes].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))) {
    const least = owned.indexOf(Math.min(...owned));
    owners.set(name, least);
    owned[least] += size;
  }
  return owners;
}

/** Kahn's order, ties in the given order; what is left over is in cycles, each named once, and appended. */
export function topological(names: readonly string[], arcs: readonly (readonly [from: string, to: string])[]): { order: string[]; cycles: string[][] } {
  const left = new Set(names);
  const order: string[] = [];
  const cycles: string[][] = [];
  const before = (name: string): string[] => arcs.filter(([from, to]) => to === name && left.has(from)).map(([from]) => from);
  while (left.size > 0) {
    const free = names.find((name) => left.has(name) && before(name).length === 0);
    if (free !== undefined) {
      left.delete(free);
      order.push(free);
      continue;
    }
    // everything left has a predecessor in it: walking back must meet itself
    const walk: string[] = [];
    let here = names.find((name) => left.has(name))!;
    while (!walk.includes(here)) {
      walk.push(here);
      here = before(here)[0];
    }
    const cycle = walk.slice(walk.indexOf(here)).reverse();
    const start = cycle.indexOf(names.find((name) => cycle.includes(name))!);
    const named = [...cycle.slice(start), ...cycle.slice(0, start)];
    cycles.push(named);
    for (const name of named) left.delete(name);
    order.push(...named);
  }
  return { order, cycles };
}

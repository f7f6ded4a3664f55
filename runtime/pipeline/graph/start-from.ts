/**
 * Where a run's parameters come from before its first step (`train.from`): one checkpoint for all components, by name, or a checkpoint
 * per component. Told before anything runs: a component that its checkpoint knows nothing of, or in another shape, is a mistake;
 * parameters it lacks (a fresh adapter, another head) start afresh, which is said.
 */
import type { Parameters } from "../../nn/index.ts";

/** A tensor's shape by its name: of a checkpoint, or of the recipe that will write it. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

export interface Fit {
  /** Not in the source; start afresh. */
  missing: string[];
  /** There in another shape: "vision.norm.weight is (64), not (96)". */
  misshaped: string[];
  held: number;
}

export function fitOf(parameters: Parameters, source: Shapes): Fit {
  const fit: Fit = { missing: [], misshaped: [], held: 0 };
  for (const [name, { shape }] of Object.entries(parameters)) {
    const there = source.get(name);
    if (!there) fit.missing.push(name);
    else if (there.join() === shape.join()) fit.held++;
    else fit.misshaped.push(`${name} is (${there.join(", ")}), not (${shape.join(", ")})`);
  }
  return fit;
}

/** What is wrong with taking `component` from `where`, or undefined. */
export function misfit({ missing, misshaped, held }: Fit, component: string, where: string): { expected: string; found: string; fix: string } | undefined {
  const expected = `the parameters of ${component} in ${where}`;
  if (misshaped.length > 0) return { expected, found: `that ${few(misshaped)}`, fix: "Give both the same options." };
  if (held === 0 && missing.length > 0) return { expected, found: `none of its ${missing.length} (${few(missing)})`, fix: "Name a checkpoint that holds it." };
  if (held === 0) return { expected, found: `that ${component} has none`, fix: "Remove the line." };
  return undefined;
}

/** What starts afresh although the component is loaded, as a warning; undefined where nothing does. */
export function afresh({ missing, held }: Fit, component: string, where: string): string | undefined {
  if (missing.length === 0) return undefined;
  return `${component}: ${missing.length} of its ${missing.length + held} parameters are not in ${where} and start afresh: ${few(missing)}.`;
}

function few(names: readonly string[]): string {
  return `${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`;
}

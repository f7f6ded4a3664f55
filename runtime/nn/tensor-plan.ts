/**
 * How a component's weights can be shared out over a tensor group, said beside the plugin; `create` knows nothing of it. Names are paths within the
 * parameter names, without `.weight`; `*` stands for one part of a name. What is not named stays whole and alike on all members.
 */
export interface TensorPlan {
  /** Linear maps whose outputs are shared out (and adapters on them: B). */
  column?: readonly string[];
  /** Of those, the ones that pack several maps: path -> how many (q, k, v: 3). */
  packed?: Readonly<Record<string, number>>;
  /** Linear maps whose inputs are shared out (and adapters on them: A). */
  row?: readonly string[];
  /** Tables whose rows are shared out. */
  vocabulary?: readonly string[];
  /** Single parameters -> the axis along which they follow the heads. */
  along?: Readonly<Record<string, number>>;
  /** What the number of members must divide, by the name of the option: heads, widths, words. */
  divides?: Readonly<Record<string, number>>;
}

/** A plan, or the option that stands in the way and why. */
export type TensorDeclaration = TensorPlan | { refused: { option: string; because: string } };

/** The parameters that a pattern's path names: `*` is one part of a name. */
export function namesUnder(pattern: string, names: readonly string[], ends: RegExp): string[] {
  const path = new RegExp(`^${pattern.split(".").map((part) => (part === "*" ? "[^.]+" : part.replace(/[^\w]/g, "\\$&"))).join("\\.")}`);
  return names.filter((name) => {
    const found = path.exec(name);
    return found !== null && ends.test(name.slice(found[0].length));
  });
}

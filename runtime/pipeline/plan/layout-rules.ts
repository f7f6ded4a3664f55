/**
 * From the layouts a recipe writes to a plan of ranks, or why it cannot be.
 *
 * LR-1: what a component writes is its whole layout; else the recipe's `layout` holds, in slots that have a backward. Loaders and frozen
 *       components apart from what learns are one rank, unless they say otherwise.
 * LR-2: everything that cannot work is refused by name: the component, what it was given, what would do.
 */
import type { Path } from "../../plugin/problem.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { type Layout, type LayoutAxis, type LayoutPlan, type SlotPlan, addsAsOneTree, axes, layOutRanks, oneRank, sameLayout } from "./layout.ts";
import type { Plan } from "./plan.ts";
import { type Placement, stagesOfRanks } from "../schedule/schedule.ts";
import type { Recipe } from "../recipe/recipe.ts";

type Say = (path: Path, said: { expected: string; found: string; fix: string }, part?: "key" | "value") => void;
export interface LayoutInput { recipe: Recipe; graph: Graph; plan: Plan; placement: Placement; say: Say }

/** The ranks of a plan; undefined when something was said. Warnings are about what is not wrong. */
export function layOut(input: LayoutInput): { layout: LayoutPlan | undefined; warnings: string[] } {
  let sound = true;
  const rules = new Rules({ ...input, say: (...said) => { sound = false; input.say(...said); } });
  const slots = rules.slots();
  rules.components(slots);
  rules.zero(slots);
  return sound ? { layout: layOutRanks(input.plan, slots), warnings: rules.warnings(slots) } : { layout: undefined, warnings: [] };
}

class Rules {
  readonly #said = new Set<string>();

  constructor(private readonly o: LayoutInput) {}

  slots(): SlotPlan[] {
    const { placement, plan } = this.o;
    return stagesOfRanks(placement).map((held, index): SlotPlan => {
      const stages = held.map((stage) => plan.stages[stage]);
      const learns = stages.some((stage) => stage.backward);
      return { name: placement.ranks[index], stages: stages.map(({ name }) => name), learns, layout: this.#common(this.#nodes(stages), learns) };
    });
  }

  #nodes(stages: Plan["stages"]): GraphNode[] {
    return stages.flatMap((stage) => stage.components.map((name) => this.o.graph.nodes.find((node) => node.name === name)!));
  }

  #common(nodes: readonly GraphNode[], learns: boolean): Layout {
    const given = (node: GraphNode): Layout => this.o.recipe.components[node.name].layout ?? (learns ? this.o.recipe.layout : oneRank);
    const [first, ...others] = nodes, layout = given(first);
    for (const node of others) {
      if (sameLayout(given(node), layout)) continue;
      this.#once(["components", node.name, "layout"], {
        expected: `${show(layout)}, as ${first.name} has, with which it shares a process`, found: show(given(node)), fix: `Give ${node.name} a stage of its own, or the same layout.`,
      });
    }
    return layout;
  }

  components(slots: readonly SlotPlan[]): void {
    const { plan } = this.o;
    const all = slots.flatMap(({ stages, layout }) => this.#nodes(plan.stages.filter(({ name }) => stages.includes(name))).map((node) => ({ node, layout })));
    for (const { node, layout } of all) {
      if (node.plugin.separable || layout.data === 1) continue;
      this.#once([...this.#written(node), "data"], { expected: `1, since ${node.name} (${node.use}) compares pages with each other`, found: String(layout.data), fix: "One copy must see the whole batch." });
    }
    for (const { node, layout } of all) this.#component(node, layout);
  }

  #component(node: GraphNode, layout: Layout): void {
    const path = this.#written(node), { microbatches } = this.o.plan;
    if (node.kind === "data-loader" && !sameLayout(layout, oneRank)) {
      this.#once(path, { expected: `one process that reads, for ${node.name} (${node.use})`, found: show(layout), fix: `Give ${node.name} a stage of its own, without a layout.` });
    }
    if (microbatches % layout.data !== 0) {
      this.#once([...path, "data"], {
        expected: `a number of copies that divides the ${microbatches} microbatches`, found: String(layout.data),
        fix: `Each copy takes as many: set train.microbatches to ${Math.ceil(microbatches / layout.data) * layout.data}, or take another number of copies.`,
      });
    }
    if (layout.context > 1) this.#sharesTokens(node, layout.context);
    for (const axis of ["tensor", "context"] as const) {
      if (layout[axis] === 1 || Object.keys(node.parameters).length === 0 || declares(node, axis)) continue;
      this.#once([...path, axis], {
        expected: `1, since ${node.name} (${node.use}) does not say how its ${axis === "tensor" ? "weights" : "sequence"} can be split`, found: String(layout[axis]), fix: `Give ${node.name} a stage and a layout of its own.`,
      });
    }
    if (layout.tensor > 1) this.#shares(node, layout.tensor);
  }

  /** What the plugin says of its weights must hold for so many members. */
  #shares(node: GraphNode, count: number): void {
    const declared = node.plugin.tensor?.(node.options), path = [...this.#written(node), "tensor"];
    if (declared && "refused" in declared) {
      const { option, because } = declared.refused;
      this.#once(path, { expected: `1, since ${node.name} (${node.use}) has ${option}: ${because}`, found: String(count), fix: `Change that option, or give ${node.name} a stage and a layout of its own.` });
    }
    for (const [what, size] of Object.entries((declared && "divides" in declared && declared.divides) || {})) {
      if (size % count === 0) continue;
      this.#once(path, { expected: `a number of members that divides the ${size} ${what.replaceAll("_", " ")} of ${node.name} (${node.use})`, found: String(count), fix: "Every member has as many." });
    }
  }

  /** What the plugin says of its sequences. */
  #sharesTokens(node: GraphNode, count: number): void {
    const refused = node.plugin.context?.(node.options).refused;
    if (!refused) return;
    this.#once([...this.#written(node), "context"], {
      expected: `1, since ${node.name} (${node.use}) has ${refused.option}: ${refused.because}`, found: String(count), fix: `Change that option, or give ${node.name} a stage and a layout of its own.`,
    });
  }

  /** What the data copies are to share out. */
  zero(slots: readonly SlotPlan[]): void {
    const { zero } = this.o.recipe.train, copied = slots.filter((slot) => slot.learns && slot.layout.data > 1);
    if (zero > 0 && copied.length === 0) {
      this.#once(["train", "zero"], { expected: "data copies that share out what they would all hold", found: `${zero}, and no component that learns with more than one copy`, fix: "Set layout: { data: 2 }, or train.zero to 0." });
    }
    const other = slots.find((slot) => slot.learns && slot.layout.data !== copied[0]?.layout.data);
    if (zero === 3 && copied.length > 0 && other) {
      this.#once(["train", "zero"], {
        expected: `the same number of data copies of everything that learns, since with 3 copies take every step of the schedule together`,
        found: `${copied[0].layout.data} of ${copied[0].name} and ${other.layout.data} of ${other.name}`, fix: "Give all the same layout, or set train.zero to 2.",
      });
    }
  }

  warnings(slots: readonly SlotPlan[]): string[] {
    const { microbatches } = this.o.plan;
    return slots.filter((slot) => slot.learns && !addsAsOneTree(microbatches, slot.layout.data)).map(({ name, layout }) =>
      `${name}: ${layout.data} data copies of ${microbatches} microbatches add gradients in another order than one process does; losses agree to rounding, not to the bit. A power of two keeps the order.`);
  }

  /** Where its layout is written: with the component, else at the top. */
  #written({ name }: GraphNode): Path {
    return this.o.recipe.components[name].layout ? ["components", name, "layout"] : ["layout"];
  }

  /** The recipe's own `layout` is one mistake, however many components it is too much for. */
  #once(path: Path, said: Parameters<Say>[1]): void {
    const key = path[0] === "layout" ? path.join("/") : `${path.join("/")} ${said.expected}`;
    if (this.#said.has(key)) return;
    this.#said.add(key);
    this.o.say(path, said);
  }
}

/** Whether a plugin declares how it goes along an axis: a member named like it. */
const declares = (node: GraphNode, axis: LayoutAxis): boolean => (node.plugin as Partial<Record<LayoutAxis, unknown>>)[axis] !== undefined;

const show = (layout: Layout): string => `layout { ${axes.map((axis) => `${axis}: ${layout[axis]}`).join(", ")} }`;

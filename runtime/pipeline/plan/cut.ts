/**
 * Stages cut by cost: the components of a graph shared out to so many processes that the slowest has as little as can be.
 *
 * CU-1: components are taken in graph order and cut into runs, so stages form a DAG; data loaders and what is frozen before anything learns
 *       share a stage ahead of the others.
 * CU-2: among all such cuts the one whose most expensive stage costs least; among equals, the one whose stages before it cost least too.
 * CU-3: a component is never cut: the largest is the bound, and whoever asks for more stages than components gets as many as there are.
 */
import { RuntimeError } from "../../errors.ts";
import type { CheckResult } from "./check.ts";
import { type ComponentProfile, estimateComponent } from "./estimate.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";

/** The stages of a recipe by what its components were measured to cost, else by estimate. Throws ERR_PLAN when nothing is known of any. */
export function stagesByCost({ graph, plan, recipe }: CheckResult, stages: number, profile?: readonly ComponentProfile[]): Record<string, string[]> {
  const settings = { bf16: recipe.train.precision === "bf16", recompute: recipe.train.recompute === "block" };
  const known = new Map((profile ?? graph.nodes.map((node) => ({ component: node.name, ...estimateComponent(node, graph, plan, settings) })))
    .map(({ component, forward, inputGradient, weightGradient }) => [component, forward + inputGradient + weightGradient]));
  if ([...known.values()].every((cost) => cost === 0)) throw new RuntimeError("ERR_PLAN", "plan: expected to know what some component costs, found no estimate of any. Measure: --profile.");
  return cutStages(graph, (component) => known.get(component)!, stages);
}

/** Stage -> components, as a recipe writes them. `cost` of a component: any unit. A stage is called like its most expensive component. */
export function cutStages({ nodes, edges }: Pick<Graph, "nodes" | "edges">, cost: (component: string) => number, stages: number): Record<string, string[]> {
  const learns = learning(nodes, edges);
  const ahead = nodes.filter(({ name }) => !learns.has(name)).map(({ name }) => name), rest = nodes.filter(({ name }) => learns.has(name)).map(({ name }) => name);
  const runs = cutRuns(rest.map(cost), Math.min(stages, rest.length)).map(([from, to]) => rest.slice(from, to));
  return Object.fromEntries([...(ahead.length > 0 ? [ahead] : []), ...runs].map((components) => [components.reduce((most, one) => (cost(one) > cost(most) ? one : most)), components]));
}

/** Components that a gradient reaches or that learn. */
function learning(nodes: readonly GraphNode[], edges: Graph["edges"]): Set<string> {
  return new Set(nodes.filter((node) => node.trainable || (!node.frozen && edges.some((edge) => edge.to[0] === node.name && edge.gradient))).map(({ name }) => name));
}

/** The best cut of a row of costs into `count` runs without gaps: [from, to) each. Dynamic programming over prefixes. */
export function cutRuns(costs: readonly number[], count: number): [from: number, to: number][] {
  const total = [0];
  for (const cost of costs) total.push(total[total.length - 1] + cost);
  // best[k][n]: the least that the most expensive of k runs over the first n costs can be, and where the last of them begins
  const best = [Array.from({ length: costs.length + 1 }, (_, n) => ({ most: n === 0 ? 0 : Infinity, from: 0 }))];
  for (let k = 1; k <= count; k++) {
    best[k] = Array.from({ length: costs.length + 1 }, (_, n) => {
      let found = { most: Infinity, from: 0 };
      for (let from = k - 1; from < n; from++) {
        const most = Math.max(best[k - 1][from].most, total[n] - total[from]);
        if (most < found.most) found = { most, from };
      }
      return found;
    });
  }
  const runs: [number, number][] = [];
  for (let k = count, to = costs.length; k > 0; k--) {
    const { from } = best[k][to];
    runs.unshift([from, to]);
    to = from;
  }
  return runs;
}

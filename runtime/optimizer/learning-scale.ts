/**
 * Parts of a model that learn more slowly than the rest: a factor on the learning rate, by the parameter's name.
 *
 * LS-1: layer-wise decay: embeddings of a ViT are layer 0, block i is i + 1, everything behind them L + 1; layer n learns at
 *       rate^(L + 1 - n). Source: Clark et al. 2020 (ELECTRA), in BEiT's form.
 */
export interface LayerDecay {
  rate: number;
  /** L: blocks. */
  layers: number;
  /** Beginning of the names it is about; others learn at the full rate. */
  prefix: string;
}

export type LearningScale = (name: string) => number;

/** `parts`: factors by the beginning of names, the longest that fits. Both multiply. */
export function learningScale({ layerDecay, parts = {} }: { layerDecay?: LayerDecay; parts?: Readonly<Record<string, number>> }): LearningScale {
  const prefixes = Object.keys(parts).sort((a, b) => b.length - a.length);
  return (name) => {
    const prefix = prefixes.find((each) => name.startsWith(each));
    const part = prefix === undefined ? 1 : parts[prefix];
    return layerDecay && name.startsWith(layerDecay.prefix) ? part * layerDecay.rate ** (layerDecay.layers + 1 - layerOf(name.slice(layerDecay.prefix.length), layerDecay.layers)) : part;
  };
}

/** LS-1, by the name within the encoder. */
export function layerOf(name: string, layers: number): number {
  if (/^(cls_token|mask_token|pos_embed|patch_embed\.)/.test(name)) return 0;
  const block = /^blocks\.(\d+)\./.exec(name);
  return block ? Number(block[1]) + 1 : layers + 1;
}

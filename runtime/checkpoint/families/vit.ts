/** What the vision transformers of BEiT's family call the parts of a block, in the original code: the names we use too. */
export const blockAttention = ["attn.qkv.weight", "attn.q_bias", "attn.v_bias", "attn.proj.weight", "attn.proj.bias"];
export const pair = (name: string): string[] => [`${name}.weight`, `${name}.bias`];
export const blockNorms = [...pair("norm1"), ...pair("norm2")];
export const blockFeedForward = [...pair("mlp.fc1"), ...pair("mlp.fc2")];
export const gammas = ["gamma_1", "gamma_2"];
export const biasTable = "relative_position_bias_table";
export const inBlocks = (blocks: string, names: readonly string[]): string[] => names.map((name) => `${blocks}.{i}.${name}`);

/** Patches per side of a relative bias table of ((2g-1)² + 3) rows. */
export const gridOfTable = (rows: number): number => (Math.sqrt(rows - 3) + 1) / 2;

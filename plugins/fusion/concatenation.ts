/**
 * Both modalities side by side and nothing more: what a model can do without fusion. The baseline of ablation studies.
 * Same ports as `fusion/multiway`; no attention, so words never see the page before the decoder does.
 */
import { z } from "zod";
import { definePlugin, nn } from "../../runtime/index.ts";
import { sequence, sequenceOptions, sequenceMaxDims, sequencePorts } from "./sequence.ts";

export const concatenation = definePlugin({
  kind: "fusion", name: "concatenation", version: "1.0.0",
  about: "Image and text side by side without attention: the ablation of fusion.",
  options: z.strictObject({ ...sequenceOptions, eps: z.number().positive().default(1e-6) }),
  ports: sequencePorts,
  maxDims: sequenceMaxDims,
  tensor: () => ({}),
  create(o) {
    const joined = sequence(o);
    const norm = nn.layerNorm({ width: o.width, eps: o.eps });
    const parameters = { ...joined.parameters(), ...nn.collect({ "fusion.norm": norm }) };
    return {
      parameters: () => parameters,
      // image (B, 1 + P, Dv), text (B, T, Dt) -> memory (B, M, D), memory_mask (B, M)
      forward: (inputs) => {
        const { tokens, mask } = joined.join(inputs);
        return { memory: norm.forward(tokens), memory_mask: mask };
      },
    };
  },
});

export { type Initializer, initialValues } from "./initializer.ts";
export { type Activation, type Embedding, type Layer, type Linear, activations, embedding, layerNorm, linear, mlp, normal, rmsNorm, swigluFeedForward, truncatedNormal } from "./layers.ts";
export { type PackedAttention, type PackedAttentionInput, packedAttention } from "./packed-attention.ts";
export { type MaterialiseOptions, type Module, Parameter, type Parameters, collect, countParameters, materialise, release } from "./parameter.ts";
export { type RopeScaling, ropeFrequencies, ropeFrequencies64 } from "./rope-frequencies.ts";
export { type BeitBlock, type BeitBlockOptions, addScaled, beitBlock, relativeBiasTable } from "./transformer-beit.ts";
export { type BertLayer, bertLayer } from "./transformer-bert.ts";
export { type KeyValueCache, type LlamaLayer, type LlamaLayerInput, type LlamaLayerOptions, llamaLayer, releaseCache } from "./transformer-llama.ts";
export { type MultiwayBlock, type MultiwayBlockOptions, multiwayBlock } from "./transformer-multiway.ts";

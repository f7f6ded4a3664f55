/** How long contexts stretch the frequencies of rotary positions. */
export type RopeScaling =
  | { type: "linear"; factor: number }
  /** theta grows once a sequence is longer than the model was trained for. Source: bloc97 2023. */
  | { type: "dynamic"; factor: number; originalPositions: number; length: number }
  /** Long wavelengths are divided, short ones kept, those between blended. Source: Llama 3.1. */
  | { type: "llama3"; factor: number; lowFrequencyFactor: number; highFrequencyFactor: number; originalPositions: number };

/** theta^(-2i/K) for i = 0 .. K/2-1, with scaling; computed in f64. Source: Su et al. 2021. */
export function ropeFrequencies64({ headDim, theta, scaling }: { headDim: number; theta: number; scaling?: RopeScaling }): Float64Array {
  if (scaling?.type === "dynamic" && scaling.length > scaling.originalPositions) {
    theta *= ((scaling.factor * scaling.length) / scaling.originalPositions - (scaling.factor - 1)) ** (headDim / (headDim - 2));
  }
  return Float64Array.from({ length: headDim / 2 }, (_, i) => stretch(theta ** ((-2 * i) / headDim), scaling));
}

/** The same in f32, as kernels of f32 tensors take them. */
export const ropeFrequencies = (o: { headDim: number; theta: number; scaling?: RopeScaling }): Float32Array => Float32Array.from(ropeFrequencies64(o));

function stretch(frequency: number, scaling: RopeScaling | undefined): number {
  if (scaling?.type === "linear") return frequency / scaling.factor;
  if (scaling?.type !== "llama3") return frequency;
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } = scaling;
  const turns = (originalPositions * frequency) / (2 * Math.PI);
  if (turns > high) return frequency;
  if (turns < low) return frequency / factor;
  const blend = (turns - low) / (high - low);
  return ((1 - blend) * frequency) / factor + blend * frequency;
}

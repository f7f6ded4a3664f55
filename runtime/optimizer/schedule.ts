/**
 * Learning rate per step (0-based): linear from 0 to `peak` over `warmup` steps, then half a cosine down to `final`.
 * The peak comes twice, at the last warm-up step and the first of the cosine. With one warm-up step that step has rate 0.
 * Source: BEiT's cosine_scheduler, per step. Steps beyond `total` stay at the last rate.
 */
export function warmupCosine({ peak, final, warmup, total }: { peak: number; final: number; warmup: number; total: number }): (step0: number) => number {
  const cosineSteps = total - warmup;
  return (step0) => {
    if (step0 < warmup) return warmup === 1 ? 0 : (peak * step0) / (warmup - 1);
    const i = Math.min(step0 - warmup, Math.max(0, cosineSteps - 1));
    return final + 0.5 * (peak - final) * (1 + Math.cos((Math.PI * i) / Math.max(1, cosineSteps)));
  };
}

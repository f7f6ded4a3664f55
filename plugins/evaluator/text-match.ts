/** How alike an answer and the truth are. All scores are in [0, 1]; empty inputs are answers like others. */

/** SQuAD: lower case, no ASCII punctuation, no articles, single spaces. */
export function normalise(text: string): string {
  return text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "").replace(/\b(a|an|the)\b/g, " ").replace(/\s+/gu, " ").trim();
}

/** Answers that normalise to nothing do not count; none at all stands for the empty answer (unanswerable). */
function golds(answers: readonly string[]): string[] {
  const kept = answers.filter((answer) => normalise(answer) !== "");
  return kept.length > 0 ? kept : [""];
}

/** 1 when the normalised texts are equal. Source: Rajpurkar et al. 2018, SQuAD 2.0 evaluation script. */
export function exactMatch(prediction: string, answers: readonly string[]): number {
  return Number(golds(answers).some((answer) => normalise(answer) === normalise(prediction)));
}

/** Overlap of the bags of tokens, F1, best over the answers. Source: SQuAD 2.0 evaluation script. */
export function tokenF1(prediction: string, answers: readonly string[]): number {
  return Math.max(...golds(answers).map((answer) => f1(words(prediction), words(answer))));
}

function words(text: string): string[] {
  return normalise(text).split(" ").filter(Boolean);
}

function f1(predicted: readonly string[], truth: readonly string[]): number {
  if (predicted.length === 0 || truth.length === 0) return Number(predicted.length === truth.length);
  const left = new Map<string, number>();
  for (const word of truth) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of predicted) {
    const count = left.get(word) ?? 0;
    if (count > 0) common++, left.set(word, count - 1);
  }
  return (2 * common) / (predicted.length + truth.length);
}

/**
 * Average normalised Levenshtein similarity: 1 - distance / longer length in code points, 0 below the threshold, best over
 * the answers; case and outer spaces do not count. Source: Biten et al. 2019 (ST-VQA), as DocVQA uses it.
 */
export function anls(prediction: string, answers: readonly string[], threshold = 0.5): number {
  const predicted = [...prediction.trim().toLowerCase()];
  if (predicted.length === 0) return 0;
  return Math.max(0, ...answers.map((answer) => {
    const truth = [...answer.trim().toLowerCase()];
    const similarity = 1 - levenshtein(predicted, truth) / Math.max(predicted.length, truth.length);
    return similarity < threshold ? 0 : similarity;
  }));
}

function levenshtein(a: readonly string[], b: readonly string[]): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + Number(a[i - 1] !== b[j - 1]));
    }
    previous = row;
  }
  return previous[b.length];
}

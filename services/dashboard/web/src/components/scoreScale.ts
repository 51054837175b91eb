/** Places on a score bar, each 0 (left) to 1 (right). */
export interface ScoreScale {
  low: number;
  high: number;
  threshold: number;
  score: number;
}

const LOW_AT = 0.52;
const HIGH_AT = 0.68;

/**
 * Where a score and its limits lie on the bar. The review band always takes the same, readable width, and each zone
 * is linear in itself: two bars can be compared even if their models cut at 0.02 and at 0.9.
 */
export function scoreScale(score: number, low: number, threshold: number, high: number): ScoreScale {
  // Probabilities end at 1; a scale without an end shows two bands' width beyond the last limit.
  const top = high < 1 && score <= 1 ? 1 : Math.max(high + (high - low) * 2, score);
  const bottom = Math.min(0, low, score);
  const at = (value: number) => {
    if (value < low) return LOW_AT * share(value, bottom, low);
    if (value < high) return LOW_AT + (HIGH_AT - LOW_AT) * share(value, low, high);
    return HIGH_AT + (1 - HIGH_AT) * share(value, high, top);
  };
  return { low: LOW_AT, high: HIGH_AT, threshold: low < high ? at(threshold) : HIGH_AT, score: at(score) };
}

function share(value: number, from: number, to: number): number {
  return to > from ? Math.min(1, Math.max(0, (value - from) / (to - from))) : 0;
}

/** Medians and quantiles of few values. */

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Between neighbours in proportion, so that the median of an even number is their mean. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new Error('there is no value');
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [Math.floor(at), Math.ceil(at)];
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low);
}

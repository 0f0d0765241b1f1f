/** Scores of one column in ascending order, with what is true of each; equal scores stand in one group. */
export interface Ranked {
  /** Sample of each rank. */
  sample: Uint32Array;
  /** Whether the answer of that sample is yes. */
  yes: Uint8Array;
  /** Last rank of each group of equal scores. */
  ends: Uint32Array;
}

/** @param targets [samples, width] of 0 and 1 */
export function ranked(scores: Float32Array, targets: Float32Array, width: number, column: number, samples: number): Ranked {
  const of = (i: number) => scores[i * width + column] as number;
  const sample = Uint32Array.from({ length: samples }, (_, i) => i).sort((a, b) => of(a) - of(b) || a - b);
  const yes = Uint8Array.from(sample, (i) => ((targets[i * width + column] as number) > 0.5 ? 1 : 0));
  const ends: number[] = [];
  for (let rank = 0; rank < samples; rank++)
    if (rank === samples - 1 || of(sample[rank] as number) !== of(sample[rank + 1] as number)) ends.push(rank);
  return { sample, yes, ends: Uint32Array.from(ends) };
}

const weightAt = (weights: ArrayLike<number> | undefined, sample: number) => (weights ? (weights[sample] as number) : 1);

/** Share of pairs of a yes and a no in which the yes has the higher score, ties counted half; NaN without both. */
export function aucOf({ sample, yes, ends }: Ranked, weights?: ArrayLike<number>): number {
  let [noBelow, yesAll, noAll, pairs] = [0, 0, 0, 0];
  let rank = 0;
  for (const end of ends) {
    let [yesHere, noHere] = [0, 0];
    for (; rank <= end; rank++) {
      const weight = weightAt(weights, sample[rank] as number);
      if (yes[rank]) yesHere += weight;
      else noHere += weight;
    }
    pairs += yesHere * (noBelow + noHere / 2);
    noBelow += noHere;
    yesAll += yesHere;
    noAll += noHere;
  }
  return yesAll > 0 && noAll > 0 ? pairs / (yesAll * noAll) : Number.NaN;
}

/** Σ (recall gained) · precision from the highest score down, equal scores taken together (as scikit-learn's average_precision_score); NaN without a yes. */
export function averagePrecisionOf({ sample, yes, ends }: Ranked, weights?: ArrayLike<number>): number {
  let [found, taken, sum] = [0, 0, 0];
  for (let group = ends.length - 1; group >= 0; group--) {
    const from = group === 0 ? 0 : (ends[group - 1] as number) + 1;
    let gained = 0;
    for (let rank = from; rank <= (ends[group] as number); rank++) {
      const weight = weightAt(weights, sample[rank] as number);
      taken += weight;
      if (yes[rank]) gained += weight;
    }
    found += gained;
    if (gained > 0) sum += (gained * found) / taken;
  }
  return found > 0 ? sum / found : Number.NaN;
}

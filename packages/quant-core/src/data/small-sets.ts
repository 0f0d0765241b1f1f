/** How many samples a job uses for what. */
export interface SetSizes {
  calibration: number;
  /** Held out to choose the best epoch, and between PTQ and QAT. */
  holdout: number;
  evaluation: number;
}

interface Floor {
  least: number;
  /** What too few samples do to the result. */
  why: string;
}

/**
 * Below these sizes a set says little. Ranges of activations from fewer than 32 samples miss values that come up later; of fewer than 50
 * samples one is more than 2 points, and of 100 one point, while the 95 % interval of an accuracy of 90 % is still 12 points wide (Wilson).
 */
const floors: { [S in keyof SetSizes]: Floor } = {
  calibration: { least: 32, why: 'ranges of activations may miss values that come up in use' },
  holdout: { least: 50, why: 'the choice of the best epoch, and between PTQ and QAT, is close to chance' },
  evaluation: { least: 100, why: 'the numbers of this report may be far from those in use' },
};

const purposes: Record<keyof SetSizes, [one: string, several: string]> = {
  calibration: ['sample calibrates', 'samples calibrate'],
  holdout: ['held-out sample chooses', 'held-out samples choose'],
  evaluation: ['sample judges', 'samples judge'],
};

/** A set that is too small to mean something, and what is said of it. */
export interface SmallSet {
  set: keyof SetSizes;
  samples: number;
  /** The size from which nothing is said. */
  least: number;
  text: string;
}

/** The sets of a job that are too small to mean something, in the order in which the job uses them. */
export function smallSets(sizes: SetSizes): SmallSet[] {
  return (Object.keys(floors) as (keyof SetSizes)[]).flatMap((set) => {
    const samples = sizes[set];
    const { least, why } = floors[set];
    if (samples >= least) return [];
    const [one, several] = purposes[set];
    return [{ set, samples, least, text: `Only ${samples} ${samples === 1 ? one : several} (${least} or more are advised): ${why}.` }];
  });
}

/** What one contender is to quantize. */
export interface PtqOptions {
  /** Path of the float model; its input is called `x`. */
  model: string;
  /** Path of an .npz with the calibration samples under `x`. */
  samples: string;
  observer: 'minmax' | 'entropy' | 'percentile';
  batch: number;
  /** Path of the int8 model. */
  output: string;
}

export interface PtqFigures {
  /** From the model file to the int8 file, without the start of the process. */
  seconds: number;
  /** Peak of the resident memory of the process, MiB. */
  peakMiB: number;
  version: string;
}

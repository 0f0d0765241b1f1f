import type { DatasetSummary } from '../events.js';
import type { InputType } from './materialise.js';

/** How elements move from the stored order to the order of the model. */
export type Order = 'same' | 'lastToFirst' | 'firstToLast';

/** What is known of stored samples when they are fitted to a model. */
export type Stored = Pick<DatasetSummary, 'format' | 'sampleShape' | 'dtype' | 'range'>;

/** The one way in which stored samples become model inputs. */
export interface Reading {
  /** Shape of one sample as the model takes it. */
  shape: number[];
  order: Order;
  /** Channels that move when the order changes; otherwise 1. */
  channels: number;
  scaling: Scaling;
  /** Element type that the model takes. */
  dtype: InputType;
  assumptions: string[];
}

/** `x' = ((x + offset) * scale - mean) / std`, in double precision, rounded to float32 once. */
export interface Scaling {
  offset: number;
  scale: number;
  /** One value, or one for each channel. */
  mean: number[];
  std: number[];
  /** Where the channels are in a sample of the model; only used with several values. */
  axis: 'first' | 'last';
}

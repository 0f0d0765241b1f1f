import type { Random } from '../tensor/random.js';
import { Tensor } from '../tensor/tensor.js';
import type { MatrixForm } from './matrix.js';

/** Inputs and wanted results of a layer, in equal parts: x [group, n, inputs], y [group, n, outputs]. */
export interface RowPart {
  x: Tensor<'float32'>;
  y: Tensor<'float32'>;
}

/** Rows of one part: what one iteration looks at. */
const partRows = 256;
/** Rows of a layer, where it has as many. */
const mostRows = 8192;
/** Elements that are kept of a layer, inputs and results together. */
const mostElements = 2 ** 25;

/** Picks rows of a layer at random positions of samples, and deals them out to parts in random order. */
export class RowStore {
  private readonly count: number;
  private readonly perSample: number;
  private readonly parts: RowPart[] = [];
  private readonly order: Uint32Array;
  private filled = 0;

  /** `samples` will be added, with `positions` rows each to choose from. */
  constructor(
    private readonly form: MatrixForm,
    samples: number,
    positions: number,
    private readonly random: Random,
  ) {
    const { group, inputs, outputs } = form;
    const most = Math.min(mostRows, Math.floor(mostElements / (group * (inputs + outputs))));
    this.perSample = Math.max(1, Math.min(positions, Math.floor(most / samples)));
    const rows = Math.min(samples * this.perSample, Math.max(1, most));
    const each = Math.min(partRows, rows);
    this.count = rows - (rows % each);
    this.order = random.permutation(this.count);
    for (let part = 0; part < this.count / each; part++)
      this.parts.push({ x: Tensor.zeros('float32', [group, each, inputs]), y: Tensor.zeros('float32', [group, each, outputs]) });
  }

  /** Whether all places are taken. */
  get full(): boolean {
    return this.filled >= this.count;
  }

  /** Take rows of a batch: `x` is what goes into the layer, `y` what is wanted after it, channels on axis 1 of a Conv, else on the last. */
  add(x: Tensor<'float32'>, y: Tensor<'float32'>): void {
    const positions = this.form.positions(x.shape, y.shape);
    for (let sample = 0; sample < (x.shape[0] as number) && !this.full; sample++) {
      const chosen = positions <= this.perSample ? Uint32Array.from({ length: positions }, (_, i) => i) : this.choose(positions);
      for (const position of chosen) if (!this.full) this.put(x, y, sample, position, positions);
    }
  }

  /** `perSample` different positions. */
  private choose(positions: number): Uint32Array {
    const chosen = new Set<number>();
    while (chosen.size < this.perSample) chosen.add(this.random.below(positions));
    return Uint32Array.from(chosen);
  }

  private put(x: Tensor<'float32'>, y: Tensor<'float32'>, sample: number, position: number, positions: number): void {
    const { group, inputs, outputs, channelsFirst } = this.form;
    const each = this.parts[0]?.x.shape[1] as number;
    const row = this.order[this.filled++] as number;
    const part = this.parts[Math.floor(row / each)] as RowPart;
    const at = row % each;
    this.form.gather(x, y, sample, position, part.x.data, at * inputs, each * inputs);
    for (let channel = 0; channel < group * outputs; channel++) {
      const from = channelsFirst
        ? (sample * group * outputs + channel) * positions + position
        : (sample * positions + position) * outputs + channel;
      part.y.data[(Math.floor(channel / outputs) * each + at) * outputs + (channel % outputs)] = y.data[from] as number;
    }
  }

  /** All parts that are full. */
  finished(): RowPart[] {
    const each = this.parts[0]?.x.shape[1] as number;
    if (this.full) return this.parts;
    // Rows that never came would be zeros: keep the parts without them.
    const missing = new Set(Array.from(this.order.subarray(this.filled), (row) => Math.floor(row / each)));
    return this.parts.filter((_, index) => !missing.has(index));
  }
}

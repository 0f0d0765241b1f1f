import type { WeightRange } from '../fakequant/scales.js';
import type { Range } from '../tensor/affine.js';
import { Tensor } from '../tensor/tensor.js';
import { loadArrays, type NamedArrays } from './arrays.js';
import type { Norms, Statistics } from './batchNorm.js';
import type { Course } from './course.js';
import { feedNames } from './forward.js';
import type { TrainInput } from './input.js';
import { LearnedScales, type LearnedSelection } from './learnedScales.js';
import { estimateStatistics } from './normEstimator.js';
import { QuantState } from './state.js';
import type { StepResult } from './stepper.js';
import { WeightScan } from './weightScan.js';

/** What the int8 model is made from. */
export interface FoldedNetwork {
  /** The parameter vector of the folded graph. */
  parameters: Float32Array;
  /** Its activation ranges. */
  ranges: Map<string, Range>;
  /** Where the ranges of its weights come from, for those that do not keep all of it. */
  weightRanges: ReadonlyMap<string, WeightRange>;
}

/** Everything about the network that training changes besides its parameters: ranges, learned scales, statistics of batch norms; and the feeds of a step that follow. */
export class NetworkState {
  private activationFeeds: Record<string, Tensor>;

  private constructor(
    private readonly input: TrainInput,
    private readonly norms: Norms,
    private readonly learned: LearnedScales,
    private readonly quant: QuantState,
    private readonly scan: WeightScan,
  ) {
    this.activationFeeds = quant.activationFeeds();
  }

  /** As calibration has it, for the parameters `start`; `observed` names the activations whose ranges move. */
  static async create(
    input: TrainInput,
    norms: Norms,
    selection: LearnedSelection,
    start: Float32Array,
    observed: readonly string[],
  ): Promise<NetworkState> {
    const { engine, plan, calibrated, weightRanges } = input;
    const learned = new LearnedScales(plan, norms.layout, selection, norms.quantizerInputs(start), calibrated, weightRanges);
    const quant = new QuantState(plan, norms.layout, observed, calibrated, weightRanges, learned);
    const scan = await WeightScan.create(engine, plan, norms.layout, (weight) => quant.followsValues(weight));
    return new NetworkState(input, norms, learned, quant, scan);
  }

  /** All that changes, as it is now: later steps change these arrays. */
  get arrays(): NamedArrays {
    return { ...this.quant.arrays, ...this.norms.arrays };
  }

  /** Throws CHECKPOINT_MISMATCH when the arrays are those of another network. */
  load(arrays: NamedArrays): void {
    loadArrays(this.arrays, arrays);
    this.activationFeeds = this.quant.activationFeeds();
  }

  /** The feeds of a step, besides parameters and samples. */
  async feeds(parameters: Float32Array, statistics: Statistics): Promise<Record<string, Tensor>> {
    const inputs = this.norms.quantizerInputs(parameters);
    const found = await this.scan.ranges(inputs);
    return { ...this.activationFeeds, ...this.quant.weightFeeds(inputs, { found }), ...this.norms.feeds(statistics) };
  }

  /** The feeds of the folded network, as it would be converted: parameters and scales, without the ends of the grids. */
  foldedFeeds(parameters: Float32Array): Record<string, Tensor> {
    const folded = this.norms.fold(parameters);
    const { [feedNames.activationScale]: scale, [feedNames.activationZeroPoint]: zeroPoint } = this.activationFeeds;
    return {
      [feedNames.activationScale]: scale as Tensor,
      [feedNames.activationZeroPoint]: zeroPoint as Tensor,
      ...this.quant.weightFeeds(folded, { ranges: this.norms.foldRanges(parameters, this.quant.weightRanges()) }),
      [feedNames.parameters]: Tensor.float32([folded.length], folded),
    };
  }

  folded(parameters: Float32Array): FoldedNetwork {
    const { norms, quant } = this;
    return { parameters: norms.fold(parameters), ranges: quant.ranges(), weightRanges: norms.foldRanges(parameters, quant.weightRanges()) };
  }

  /** γ/σ of every channel of the batch norms, which `update` has to know from before the step. */
  factors(parameters: Float32Array): Float32Array {
    return this.norms.factors(parameters);
  }

  /** Take in what step number `step` (from 1) reports. `share`: its learning rate as a share of the first. */
  update(result: StepResult, factors: Float32Array, share: number, step: number): void {
    if (result.statistics) this.norms.observe(factors, result.statistics);
    if (result.observed) this.quant.observe(result.observed.min, result.observed.max);
    if (result.scaleGradient) this.learned.update(result.scaleGradient, share, step);
    if (result.observed || result.scaleGradient) this.activationFeeds = this.quant.activationFeeds();
  }

  /** Measure the statistics of the batch norms anew, where the recipe asks for that. */
  async reestimate(parameters: Float32Array, { batch, shards }: Course): Promise<void> {
    const { input, norms } = this;
    if (!input.recipe.training.reestimateBatchNorm) return;
    const { [feedNames.activationLow]: _low, [feedNames.activationHigh]: _high, ...feeds } = await this.feeds(parameters, 'batch');
    const all = { ...feeds, [feedNames.parameters]: Tensor.float32([parameters.length], parameters) };
    norms.replace(norms.factors(parameters), await estimateStatistics(input, norms, batch, shards, all));
  }

  get learnedScales(): number {
    return this.learned.size;
  }

  async dispose(): Promise<void> {
    await this.scan.dispose();
  }
}

import type { Graph } from '../ir/graph.js';
import type { Tensor } from '../tensor/tensor.js';

export interface CompileOptions {
  /** Intra-op threads; results do not depend on it. */
  threads: number;
  /**
   * `train`: the graph is run as it stands, apart from exact clean-ups. `infer`: every optimization of the runtime,
   * as a user's own session would have it (integer kernels for Q/DQ groups included).
   */
  mode: 'train' | 'infer';
  /** Keep what the runtime made of the graph at this path, to see which nodes became integer. */
  optimizedModelPath?: string;
  /** Write a profile with this file name prefix. */
  profilePrefix?: string;
}

/** A compiled graph. Feeds and results are named by graph inputs and outputs. */
export interface Program {
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  /** Ends profiling (when it was asked for) and frees native memory. */
  dispose(): Promise<void>;
}

/** Executes graphs and knows nothing of training or quantization. */
export interface Engine {
  readonly name: string;
  readonly version: string;
  compile(graph: Graph, options: CompileOptions): Promise<Program>;
  /** Load a finished model file, as a user would. */
  load(path: string, options: CompileOptions): Promise<Program>;
}

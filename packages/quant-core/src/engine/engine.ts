import type { Graph, ValueType } from '../ir/graph.js';
import type { Tensor } from '../tensor/tensor.js';

export interface CompileOptions {
  /** Intra-op threads. Sums inside matrix products depend on it in the last bit: where bits matter, 1. */
  threads: number;
  /**
   * `train`: the graph is run as it stands, apart from exact clean-ups. `infer`: every optimization of the runtime,
   * as a user's own session would have it (integer kernels for Q/DQ groups included).
   */
  mode: 'train' | 'infer';
  /** Use the fast kernels of x86 without VNNI, which saturate, as a session with default options does. */
  saturatingIntegers?: boolean;
  /** Keep what the runtime made of the graph at this path, to see which nodes became integer. */
  optimizedModelPath?: string;
  /** Write a profile with this file name prefix. */
  profilePrefix?: string;
}

/**
 * Graphs of more nodes are run as they stand: the time that ONNX Runtime's optimizer takes grows with the square of their number. (10,000 nodes of
 * an int8 model with 2,000 layers: 8 s of one core with it, 1.7 s without.)
 */
export const mostOptimizedNodes = 20_000;

/** A compiled graph. Feeds and results are named by graph inputs and outputs. */
export interface Program {
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
  /** Ends profiling (when it was asked for) and frees native memory. */
  dispose(): Promise<void>;
}

/** A compiled graph that is run on several parts of a batch. */
export interface ShardedProgram {
  /** One result for each set of feeds, in their order. They stay valid until the next run. */
  run(shards: readonly Readonly<Record<string, Tensor>>[]): Promise<Record<string, Tensor>[]>;
  dispose(): Promise<void>;
}

/** Executes graphs and knows nothing of training or quantization. */
export interface Engine {
  readonly name: string;
  readonly version: string;
  /** Name → version of all that computes, for provenance. */
  readonly versions: Readonly<Record<string, string>>;
  /** Where the engine may lay files, which whoever made the directory removes; a temporary directory of its own without. */
  layFilesIn?(directory: string): void;
  compile(graph: Graph, options: CompileOptions): Promise<Program>;
  /**
   * Types of the outputs of a graph as the runtime infers them without running it, by name; only what it knows. An engine may lack it.
   * Throws MODEL_RUN_FAILED for a graph that it does not take.
   */
  inferTypes?(graph: Graph): Promise<ReadonlyMap<string, ValueType>>;
  /**
   * Compile a training graph that is run on `shards` parts at a time, on up to `threads` threads. Every part runs on one thread,
   * so that the result has the same bits whatever the number of threads.
   */
  compileSharded(graph: Graph, options: { threads: number; shards: number }): Promise<ShardedProgram>;
  /** Load a finished model file, as a user would. */
  load(path: string, options: CompileOptions): Promise<Program>;
}

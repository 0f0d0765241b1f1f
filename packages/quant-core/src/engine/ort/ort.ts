import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { OctetError } from '../../errors.js';
import { countNodes } from '../../formats/onnx/count.js';
import { WeightFile } from '../../formats/onnx/weightFile.js';
import { writeOnnx } from '../../formats/onnx/write.js';
import type { Dim, Graph, ValueType } from '../../ir/graph.js';
import { type DType, dtypes } from '../../tensor/dtype.js';
import { Tensor } from '../../tensor/tensor.js';
import { type CompileOptions, type Engine, mostOptimizedNodes, type Program, type ShardedProgram } from '../engine.js';
import { SequentialShards } from '../sequential.js';
import { bindFeeds, bindResults, type Plain, unbindResults } from './binding.js';
import { lowerToBlocked } from './blocked.js';
import { quantizeBroadcast } from './channels.js';
import { orderGradients } from './order.js';
import { probeBlock } from './probe.js';
import { cutGraph, PartedSession, type Session, usualCut } from './segments.js';
import { ThreadedShards } from './shards.js';
import { bindVectors, noVectors, type Vectors } from './vectors.js';

const require = createRequire(import.meta.url);

/** Constants of more bytes together are laid into a file that sessions map into memory. */
const usualBytesInside = 2 ** 29;

/** Weights of an engine that was given no directory, for as long as the process lives. */
function temporaryWeights(): WeightFile {
  const directory = mkdtempSync(join(process.env.OCTET_TEMP || tmpdir(), 'octet-weights-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return new WeightFile(join(directory, 'weights.bin'));
}

/** ONNX Runtime's own type: its session options accept more than its typings name. */
type SessionOptions = Ort.InferenceSession.SessionOptions & { extra?: Record<string, unknown> };

function sessionOptions(options: CompileOptions, nodes: number, weights?: WeightFile): SessionOptions {
  return {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: nodes > mostOptimizedNodes ? 'disabled' : 'all',
    logSeverityLevel: 3,
    // A pattern would be allocated beside the memory of the first run, which is never given back: twice the memory, and no faster.
    ...(options.mode === 'train' ? { enableMemPattern: false } : {}),
    ...(options.optimizedModelPath ? { optimizedModelFilePath: options.optimizedModelPath } : {}),
    ...(options.profilePrefix ? { enableProfiling: true, profileFilePrefix: options.profilePrefix } : {}),
    extra: {
      session: {
        // Denormals only appear in training, where they would cost time and mean nothing.
        set_denormal_as_zero: options.mode === 'train' ? '1' : '0',
        // On x86 without VNNI the fast kernel for u8·s8 adds pairs in saturating int16. Exact sums are what every other
        // processor computes; for weights of 7 bits, which cannot saturate, they cost nothing.
        x64quantprecision: options.saturatingIntegers ? '0' : '1',
        // In a training graph Q/DQ pairs are what is differentiated; they stay what they are.
        ...(options.mode === 'train' ? { disable_quant_qdq: '1' } : {}),
        // Weights in a form of the kernels' own would be the copies that the file is there to save.
        ...(weights ? { model_external_initializers_file_folder_path: dirname(weights.path), disable_prepacking: '1' } : {}),
      },
    },
  };
}

class OrtProgram implements Program {
  /** The outputs that are tensors: the binding hands over no sequences or maps, and refuses a run that asks for one. */
  private readonly names: readonly string[];

  constructor(
    private readonly session: Session,
    private readonly ort: typeof Ort,
    private readonly profiling: boolean,
    private readonly vectors: Vectors,
  ) {
    const others = new Set(session.outputMetadata?.filter(({ isTensor }) => !isTensor).map(({ name }) => name));
    this.names = session.outputNames.filter((name) => !others.has(name));
  }

  async run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    const { ort, session, names, vectors } = this;
    const memory = Object.fromEntries(Object.entries(vectors.results).map(([name, { size }]) => [name, new Float32Array(size)]));
    let results: Readonly<Record<string, Ort.Tensor>>;
    try {
      const into = bindResults(ort.Tensor, names, vectors, memory);
      results = await session.run(bindFeeds(ort.Tensor, feeds as Record<string, Plain>, vectors), into);
    } catch (error) {
      throw new OctetError('MODEL_RUN_FAILED', error instanceof Error ? error.message : String(error), {}, { cause: error });
    }
    const out = Object.entries(unbindResults(results, vectors, memory));
    return Object.fromEntries(out.map(([name, { dtype, shape, data }]) => [name, new Tensor(dtype as DType, shape, data)]));
  }

  async dispose(): Promise<void> {
    if (this.profiling) this.session.endProfiling();
    await this.session.release();
  }
}

/** The default engine: ONNX Runtime on the CPU. */
export class OrtEngine implements Engine {
  readonly name = 'onnxruntime';
  readonly version: string;
  readonly versions: Readonly<Record<string, string>>;
  private readonly ort: typeof Ort;
  private block: Promise<number | undefined> | undefined;
  private weights: WeightFile | undefined;

  /** Throws ENGINE_UNAVAILABLE where ONNX Runtime has no binary, as on Intel Macs and with musl. */
  constructor(
    private readonly mostBytesInside = usualBytesInside,
    private readonly cut = usualCut,
  ) {
    try {
      this.ort = require('onnxruntime-node') as typeof Ort;
    } catch (error) {
      const why = (error instanceof Error ? error.message : String(error)).split('\n')[0];
      throw new OctetError(
        'ENGINE_UNAVAILABLE',
        `onnxruntime-node cannot be loaded on ${process.platform} ${process.arch}: ${why}`,
        {},
        { cause: error },
      );
    }
    this.version = this.ort.env.versions.node ?? this.ort.env.versions.common;
    this.versions = { [this.name]: this.version };
  }

  async compile(graph: Graph, options: CompileOptions): Promise<Program> {
    const weights = this.weightFile(graph);
    if (options.mode === 'infer')
      return this.create(writeOnnx(graph, weights), sessionOptions(options, graph.nodes.length, weights), options);
    const { lowered, vectors } = await this.lowered(graph);
    const parts = cutGraph(lowered, this.cut);
    const session = parts.length > 1 ? await this.parted(lowered, parts, options, weights) : undefined;
    if (session) return new OrtProgram(session, this.ort, options.profilePrefix !== undefined, vectors);
    return this.create(writeOnnx(lowered, weights), sessionOptions(options, graph.nodes.length, weights), options, vectors);
  }

  /** A session for every part; undefined where the type of a value between two is not known, so that the runtime does not take them. */
  private async parted(graph: Graph, parts: readonly Graph[], options: CompileOptions, weights?: WeightFile): Promise<Session | undefined> {
    const sessions: Session[] = [];
    try {
      for (const part of parts)
        sessions.push(await this.session(writeOnnx(part, weights), sessionOptions(options, part.nodes.length, weights)));
    } catch (error) {
      for (const session of sessions) await session.release();
      if (error instanceof OctetError && error.code === 'MODEL_RUN_FAILED') return undefined;
      throw error;
    }
    return new PartedSession(
      sessions,
      graph.outputs.map(({ name }) => name),
    );
  }

  async inferTypes(graph: Graph): Promise<ReadonlyMap<string, ValueType>> {
    const weights = this.weightFile(graph);
    const options = {
      ...sessionOptions({ threads: 1, mode: 'infer' }, graph.nodes.length, weights),
      graphOptimizationLevel: 'disabled',
    } as const;
    const session = await this.session(writeOnnx(graph, weights), options);
    const types = new Map<string, ValueType>();
    for (const output of session.outputMetadata) {
      if (!output.isTensor || !Object.hasOwn(dtypes, output.type)) continue;
      const shape = output.shape.map((dim, axis): Dim => (typeof dim === 'number' && dim >= 0 ? dim : dim || `${output.name}_d${axis}`));
      // It says [] for a scalar and for a shape that it cannot tell alike.
      types.set(output.name, { dtype: output.type as DType, ...(shape.length > 0 ? { shape } : {}) });
    }
    await session.release();
    return types;
  }

  layFilesIn(directory: string): void {
    this.weights = new WeightFile(join(directory, `weights-${process.pid}.bin`));
  }

  /** Where the weights of a graph lie that has many: one file for all sessions, which map it instead of holding copies. */
  private weightFile(graph: Graph): WeightFile | undefined {
    const bytes = graph.constants().reduce((sum, value) => sum + (value.constant?.bytes ?? 0), 0);
    if (bytes <= this.mostBytesInside) return undefined;
    this.weights ??= temporaryWeights();
    return this.weights;
  }

  /** A training graph in the form that runs fastest here. */
  private async lowered(graph: Graph): Promise<{ lowered: Graph; vectors: Vectors }> {
    this.block ??= probeBlock(this.ort, sessionOptions({ threads: 1, mode: 'train' }, 1));
    const block = await this.block;
    const copy = graph.clone();
    if (block !== undefined) lowerToBlocked(copy, block);
    quantizeBroadcast(copy);
    orderGradients(copy);
    const vectors = bindVectors(copy);
    return { lowered: copy, vectors };
  }

  async compileSharded(graph: Graph, { threads, shards }: { threads: number; shards: number }): Promise<ShardedProgram> {
    const options = { threads: 1, mode: 'train' } as const;
    const workers = Math.min(threads, shards);
    if (workers < 2 || graph.nodes.length > mostOptimizedNodes) return new SequentialShards(await this.compile(graph, options));
    const weights = this.weightFile(graph);
    const { lowered, vectors } = await this.lowered(graph);
    return ThreadedShards.create(writeOnnx(lowered, weights), sessionOptions(options, graph.nodes.length, weights), vectors, workers);
  }

  load(path: string, options: CompileOptions): Promise<Program> {
    return this.create(path, sessionOptions(options, countNodes(path)), options);
  }

  private async create(
    source: Uint8Array | string,
    session: SessionOptions,
    options: CompileOptions,
    vectors = noVectors,
  ): Promise<Program> {
    return new OrtProgram(await this.session(source, session), this.ort, options.profilePrefix !== undefined, vectors);
  }

  private async session(source: Uint8Array | string, options: SessionOptions): Promise<Ort.InferenceSession> {
    try {
      const { InferenceSession } = this.ort;
      return await (typeof source === 'string' ? InferenceSession.create(source, options) : InferenceSession.create(source, options));
    } catch (error) {
      throw new OctetError('MODEL_RUN_FAILED', error instanceof Error ? error.message : String(error), {}, { cause: error });
    }
  }
}

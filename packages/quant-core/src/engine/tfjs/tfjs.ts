import { OctetError } from '../../errors.js';
import { defaultLimits } from '../../events.js';
import { readModel } from '../../formats/read.js';
import type { Graph } from '../../ir/graph.js';
import type { CompileOptions, Engine, Program, ShardedProgram } from '../engine.js';
import { SequentialShards } from '../sequential.js';
import { type Load, type LoadedBackend, loadBackend, type TfjsBackend } from './backend.js';
import { Profile } from './profile.js';
import { TfjsProgram } from './program.js';

/**
 * The second engine: the same graphs on kernels of TF.js, in float32. Quantized tensors are whole numbers in float32, so that a
 * quantized model is simulated: same numbers, no integer kernels.
 * Graphs run on the thread that calls; `threads` is not heeded.
 */
export class TfjsEngine implements Engine {
  readonly name = 'tfjs';
  readonly version: string;
  readonly versions: Readonly<Record<string, string>>;

  private constructor(private readonly host: LoadedBackend) {
    this.version = `${host.version} ${host.name}`;
    this.versions = { [this.name]: this.version };
  }

  /** Loads TF.js and its fastest backend here, or the one named. Throws ENGINE_UNAVAILABLE with the reasons. */
  static async create(backend?: TfjsBackend, load?: Load): Promise<TfjsEngine> {
    return new TfjsEngine(await loadBackend(backend, load));
  }

  get backend(): TfjsBackend {
    return this.host.name;
  }

  /** Why faster backends are not used. */
  get missing(): LoadedBackend['missing'] {
    return this.host.missing;
  }

  async compile(graph: Graph, options: CompileOptions): Promise<Program> {
    const program = new TfjsProgram(graph, this.host, options.profilePrefix === undefined ? undefined : new Profile(options.profilePrefix));
    program.checkTypes();
    return program;
  }

  async compileSharded(graph: Graph): Promise<ShardedProgram> {
    return new SequentialShards(await this.compile(graph, { threads: 1, mode: 'train' }));
  }

  async load(path: string, options: CompileOptions): Promise<Program> {
    try {
      return await this.compile((await readModel(path, defaultLimits)).graph, options);
    } catch (error) {
      throw OctetError.from(error, 'MODEL_RUN_FAILED', { file: path });
    }
  }
}

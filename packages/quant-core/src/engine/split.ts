import type { Graph, ValueType } from '../ir/graph.js';
import type { CompileOptions, Engine, Program, ShardedProgram } from './engine.js';

/** Graphs of our own run on one engine, finished model files and models as a user runs them on another. */
export class SplitEngine implements Engine {
  readonly name: string;
  readonly version: string;
  readonly versions: Readonly<Record<string, string>>;

  constructor(
    private readonly compute: Engine,
    private readonly runtime: Engine,
  ) {
    this.name = runtime.name;
    this.version = runtime.version;
    this.versions = { ...runtime.versions, ...compute.versions };
  }

  layFilesIn(directory: string): void {
    this.compute.layFilesIn?.(directory);
    this.runtime.layFilesIn?.(directory);
  }

  compile(graph: Parameters<Engine['compile']>[0], options: CompileOptions): Promise<Program> {
    return (options.mode === 'train' ? this.compute : this.runtime).compile(graph, options);
  }

  async inferTypes(graph: Graph): Promise<ReadonlyMap<string, ValueType>> {
    return (await this.runtime.inferTypes?.(graph)) ?? new Map();
  }

  compileSharded(...given: Parameters<Engine['compileSharded']>): Promise<ShardedProgram> {
    return this.compute.compileSharded(...given);
  }

  load(path: string, options: CompileOptions): Promise<Program> {
    return this.runtime.load(path, options);
  }
}

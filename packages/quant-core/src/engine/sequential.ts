import type { Tensor } from '../tensor/tensor.js';
import type { Program, ShardedProgram } from './engine.js';

/** Shards one after the other on one program: the results are those of shards on threads, to the last bit. */
export class SequentialShards implements ShardedProgram {
  constructor(private readonly program: Program) {}

  async run(shards: readonly Readonly<Record<string, Tensor>>[]): Promise<Record<string, Tensor>[]> {
    const results: Record<string, Tensor>[] = [];
    for (const feeds of shards) results.push(await this.program.run(feeds));
    return results;
  }

  dispose(): Promise<void> {
    return this.program.dispose();
  }
}

import type {
  DatasetConfig,
  DatasetSummary,
  Limits,
  ModelSummary,
  PipelineEvent,
  PipelineResult,
  QuantizeJob,
  Recipe,
} from '@octet/quant-core';

/** What a job process can be told to do: the functions of quant-core that touch untrusted files. */
export interface Commands {
  'inspect-model': { payload: { path: string; limits: Limits; recipe: Recipe }; result: ModelSummary };
  'inspect-dataset': { payload: { path: string; config: DatasetConfig; workDirectory: string; limits: Limits }; result: DatasetSummary };
  quantize: { payload: QuantizeJob; result: PipelineResult };
}
export type Command = keyof Commands;

/** The module behind the commands: quant-core, or one that a test puts in its place. */
export interface CommandModule {
  inspectModel(path: string, options: { limits: Limits; recipe: Recipe }): Promise<ModelSummary>;
  inspectDataset(path: string, config: DatasetConfig, options: { workDirectory: string; limits: Limits }): Promise<DatasetSummary>;
  quantize(job: QuantizeJob, options: { signal: AbortSignal; onEvent: (event: PipelineEvent) => void }): Promise<PipelineResult>;
}

/** Messages from the parent to the job process. */
export type Order = { kind: 'run'; command: Command; payload: unknown; module: string } | { kind: 'abort' };

/** Runs one command of the module. */
export function execute(
  module: CommandModule,
  command: Command,
  payload: unknown,
  signal: AbortSignal,
  onEvent: (event: PipelineEvent) => void,
): Promise<unknown> {
  switch (command) {
    case 'inspect-model': {
      const { path, limits, recipe } = payload as Commands['inspect-model']['payload'];
      return module.inspectModel(path, { limits, recipe });
    }
    case 'inspect-dataset': {
      const { path, config, workDirectory, limits } = payload as Commands['inspect-dataset']['payload'];
      return module.inspectDataset(path, config, { workDirectory, limits });
    }
    case 'quantize':
      return module.quantize(payload as QuantizeJob, { signal, onEvent });
  }
}

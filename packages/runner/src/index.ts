export type { Command, CommandModule, Commands } from './commands.js';
export { type RunnerLog, type RunOptions, runJobProcess } from './run.js';

import { fidelityMetrics, type Task } from './task.js';

/** No labels: the float model is what the int8 model has to equal. */
export const unlabelled: Task = {
  label: 'unlabelled',
  kind: undefined,
  refuses: () => undefined,
  axis: (_, { axis }) => axis,
  losses: () => [],
  metrics: fidelityMetrics,
  targets: () => new Float32Array(),
  collects: 'nothing',
  blocks: ['flips'],
};

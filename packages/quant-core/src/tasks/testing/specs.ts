import type { OutputKind } from '../../choices.js';
import type { LossSpec } from '../loss.js';
import type { ModelOutput } from '../output.js';
import type { LossKind } from '../task.js';

/** A loss of one output; classes along axis 1. */
export function lossSpec(output: string, kind: LossKind = 'cross_entropy', distillationWeight = 0, temperature = 2): LossSpec {
  const axis = kind === 'cross_entropy' ? 1 : null;
  return { terms: [{ output, kind, axis, distillationWeight, weight: 1 }], temperature };
}

/** An output [N, …row] that is certainly of this kind. */
export function modelOutput(name: string, kind: OutputKind, row: readonly number[], more: Partial<ModelOutput> = {}): ModelOutput {
  return {
    name,
    dtype: 'float32',
    shape: ['N', ...row],
    kind,
    axis: kind === 'classes' ? 1 : null,
    form: 'logits',
    width: row.reduce((a, b) => a * b, 1),
    judged: true,
    of: name,
    why: 'The test says so.',
    certain: true,
    ...more,
  };
}

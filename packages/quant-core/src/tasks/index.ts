import type { TaskName } from '../choices.js';
import { classification } from './classification.js';
import { denseClassification } from './denseClassification.js';
import { multiLabel } from './multiLabel.js';
import { regression } from './regression.js';
import { softClassification } from './softClassification.js';
import type { Task } from './task.js';
import { unlabelled } from './unlabelled.js';

/** What depends on the labels of a dataset, one row a task. */
export const tasks: { readonly [T in TaskName]: Task } = {
  classification,
  soft_classification: softClassification,
  multi_label: multiLabel,
  dense_classification: denseClassification,
  regression,
  unlabelled,
};

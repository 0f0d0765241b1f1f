import { OctetError } from '../../errors.js';
import type { Graph } from '../../ir/graph.js';
import { fusedStep, type Step } from './fuse.js';
import type { Kernel } from './kernels/kernel.js';
import { kernels } from './kernels/table.js';

/** A step a node, in order; some stand for what lies before them too. Throws ENGINE_UNSUPPORTED_OP, naming every operator without a kernel. */
export function stepsOf(graph: Graph): Step[] {
  const foreign = graph.nodes.filter((node) => !kernels[node.op]);
  const [first] = foreign;
  if (first) {
    const names = [...new Set(foreign.map((node) => node.opName))].join(', ');
    throw new OctetError('ENGINE_UNSUPPORTED_OP', `The TF.js engine has no kernel for ${names} (node ${first.name})`, {
      node: first.name,
      op: first.opName,
    });
  }
  return graph.nodes.map((node) => fusedStep(node) ?? { node, kernel: kernels[node.op] as unknown as Kernel<never>, inputs: node.inputs });
}

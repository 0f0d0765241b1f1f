import { OctetError } from '../../errors.js';
import type { Graph, Node, Value } from '../../ir/graph.js';
import type { Tensor } from '../../tensor/tensor.js';
import type { Program } from '../engine.js';
import { type LoadedBackend, useBackend } from './backend.js';
import type { Step } from './fuse.js';
import type { Result } from './kernels/kernel.js';
import { download, heldAs, Operand, upload } from './operand.js';
import type { Profile } from './profile.js';
import { stepsOf } from './steps.js';

/** A step, and the values that are not needed after it. */
interface Planned extends Step {
  dead: Value[];
}

type Env = Map<Value, Operand>;

/** Steps that lead to an output, each with the values it is the last to read. */
function planned(graph: Graph): Planned[] {
  const needed = new Set<Value>(graph.outputs);
  const kept = stepsOf(graph)
    .reverse()
    .filter((step) => {
      const wanted = step.node.outputs.some((value) => needed.has(value));
      if (wanted) for (const value of step.inputs) if (value) needed.add(value);
      return wanted;
    })
    .reverse();
  const last = new Map<Value, Step>();
  for (const step of kept) {
    for (const value of step.node.outputs) last.set(value, step);
    for (const value of step.inputs) if (value) last.set(value, step);
  }
  for (const value of graph.outputs) last.delete(value);
  const dead = new Map<Step, Value[]>(kept.map((step) => [step, []]));
  for (const [value, step] of last) if (!value.constant) dead.get(step)?.push(value);
  return kept.map((step) => ({ ...step, dead: dead.get(step) ?? [] }));
}

/** Walks a graph, one TF.js kernel (or a few) a node, and frees each value after its last reader. */
export class TfjsProgram implements Program {
  private readonly steps: Planned[];
  /** Constants stay in the backend from their first use on. */
  private readonly constants: Env = new Map();
  private readonly graph: Graph;

  constructor(
    graph: Graph,
    private readonly host: LoadedBackend,
    private readonly profile?: Profile,
  ) {
    this.graph = graph.clone();
    this.steps = planned(this.graph);
  }

  async run(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    // From here on nothing waits: no other program can change the current backend.
    useBackend(this.host);
    const env: Env = new Map();
    this.profile?.begin();
    try {
      for (const input of this.graph.inputs) env.set(input, this.fed(input, feeds));
      for (const step of this.steps) this.execute(step, env);
      return Object.fromEntries(
        this.graph.outputs.map((value) => {
          const { tensor, dtype } = this.valueOf(value, env);
          return [value.name, download(tensor, dtype)];
        }),
      );
    } finally {
      for (const operand of env.values()) operand.dispose();
      this.profile?.end();
    }
  }

  private fed(input: Value, feeds: Readonly<Record<string, Tensor>>): Operand {
    const tensor = feeds[input.name];
    const refuse = (what: string) => new OctetError('MODEL_RUN_FAILED', `Input "${input.name}" ${what}`, { tensor: input.name });
    if (!tensor) throw refuse('is not given');
    if (input.dtype && tensor.dtype !== input.dtype) throw refuse(`is ${tensor.dtype}, wanted ${input.dtype}`);
    const { shape } = input;
    if (shape && (shape.length !== tensor.shape.length || shape.some((dim, i) => typeof dim === 'number' && dim !== tensor.shape[i])))
      throw refuse(`has shape [${tensor.shape}], wanted [${shape}]`);
    return new Operand(tensor.dtype, upload(this.host.tf, tensor, input.name));
  }

  private valueOf(value: Value, env: Env): Operand {
    const known = env.get(value) ?? this.constants.get(value);
    if (known) return known;
    if (!value.constant) throw new OctetError('INTERNAL', `${value.name} is read before it is written`, { tensor: value.name });
    const { tf } = this.host;
    const { constant, name } = value;
    const operand = new Operand(constant.dtype, () => tf.keep(upload(tf, constant, name)), constant);
    this.constants.set(value, operand);
    return operand;
  }

  private execute({ node, kernel, inputs: values, dead }: Planned, env: Env): void {
    const { tf, round, name: backend } = this.host;
    const inputs = values.map((value) => value && this.valueOf(value, env));
    const started = this.profile?.now();
    const types: Operand['dtype'][] = [];
    const tensors = tf.tidy(() => {
      const results = this.guarded(node, () => kernel({ tf, backend, round, node: node as Node<never>, inputs }));
      const list: readonly Result[] = 'length' in results ? results : [{ tensor: results }];
      types.push(...list.map(({ dtype }) => dtype ?? inputs[0]?.dtype ?? 'float32'));
      // A kernel may hand an input on; the output is freed on its own.
      return list.map(({ tensor }) => (inputs.some((operand) => operand?.holds(tensor)) ? tensor.clone() : tensor));
    });
    node.outputs.forEach((value, port) => {
      const tensor = tensors[port];
      if (tensor) env.set(value, new Operand(types[port] as Operand['dtype'], tensor));
    });
    for (const tensor of tensors.slice(node.outputs.length)) tensor.dispose();
    this.profile?.node(node, started ?? 0, inputs, tensors);
    for (const value of dead) {
      env.get(value)?.dispose();
      env.delete(value);
    }
  }

  private guarded<T>(node: Node, body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw OctetError.from(
        error instanceof OctetError
          ? error
          : new Error(`${node.opName} ${node.name}: ${error instanceof Error ? error.message : error}`, { cause: error }),
        'MODEL_RUN_FAILED',
        { node: node.name, op: node.opName },
      );
    }
  }

  async dispose(): Promise<void> {
    useBackend(this.host);
    for (const operand of this.constants.values()) operand.dispose();
    this.constants.clear();
    await this.profile?.write();
  }

  /** Whether every value of the graph has a type that TF.js holds; throws ENGINE_UNSUPPORTED_TYPE, naming one that has not. */
  checkTypes(): void {
    for (const value of this.graph.values()) if (value.dtype) heldAs(value.dtype, value.name);
  }
}

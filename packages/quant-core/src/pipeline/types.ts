import type { Engine } from '../engine/engine.js';
import { OctetError } from '../errors.js';
import { fillIn, inputSymbols, isKnown } from '../ir/declared.js';
import { extract } from '../ir/extract.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { inferShapes } from '../ir/infer.js';

/** Operators that the runtime is asked about, each a few milliseconds. */
const mostAsked = 500;

/**
 * Shapes of the whole graph, in place, by our rules and by what the file declares. Where these do not tell what an operator outside the list gives,
 * the runtime is asked, which knows every operator that it runs; its answer becomes what is declared of the value. A value whose type cannot be known has none.
 */
export async function inferTypes(graph: Graph, engine: Engine): Promise<void> {
  inferShapes(graph);
  const asked = new Set<Node>();
  for (let learned = true; learned && asked.size < mostAsked; ) {
    const symbols = inputSymbols(graph);
    const open = (value: Value) => !value.shape || value.shape.some((dim) => !isKnown(dim, symbols));
    const nodes = graph.nodes.filter((node) => node.op === 'Opaque' && !asked.has(node) && node.outputs.some(open));
    learned = false;
    const waiting = new Set(nodes);
    for (const node of nodes) {
      const part = partOf(graph, node, open, waiting);
      if (!part) continue;
      asked.add(node);
      learned = true;
      const types = await ask(part, engine);
      for (const value of node.outputs.filter(open)) {
        const type = types?.get(value.name);
        if (!type) continue;
        value.declared = value.declared ? fillIn(value.declared, type, symbols) : type;
        value.type ??= value.declared;
      }
    }
    if (learned) inferShapes(graph);
  }
}

/** The node with what leads to it from values of known shapes; undefined where something before it is to be asked first. */
function partOf(graph: Graph, node: Node, open: (value: Value) => boolean, waiting: ReadonlySet<Node>): Graph | undefined {
  const from = new Set<Value>();
  const seen = new Set<Value>();
  const stack = node.inputs.filter((value): value is Value => value !== undefined);
  for (let value = stack.pop(); value; value = stack.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    if (value.constant) continue;
    if (!value.producer || !open(value)) from.add(value);
    else if (waiting.has(value.producer)) return undefined;
    else stack.push(...value.producer.inputs.filter((each) => each !== undefined));
  }
  const part = extract(graph, [...from], node.outputs);
  part.origin = graph.origin;
  return part;
}

/** The runtime's answer; undefined where it has none. A model that it does not take is refused elsewhere, with its message. */
async function ask(part: Graph, engine: Engine): Promise<ReturnType<NonNullable<Engine['inferTypes']>> | undefined> {
  try {
    return await engine.inferTypes?.(part);
  } catch (error) {
    if (error instanceof OctetError && error.code === 'MODEL_RUN_FAILED') return undefined;
    throw error;
  }
}

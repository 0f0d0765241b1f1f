import { fromFloat16, Tensor } from '../tensor/tensor.js';
import type { Dim, Graph, Node, Value } from './graph.js';
import { type AttributeValue, spec } from './ops.js';

export { parse } from './parse.js';

/**
 * A graph as text, one node a line:
 *
 *     graph net (x: float32[N, 4]) opset 18
 *     y: float32[N, 2] = Gemm(x, w=float32[2, 4]#9c1f03aa, b=float32[2]{0, 0.5}) {transB=1} @fc
 *     return y
 *
 * A constant is written where it is read first: in full up to 8 elements (or one element for all when they are equal), else by
 * a hash. `_` is an omitted input. The name of a node is left out where its first output has the same.
 * `parse` reads it back.
 */
export function print(graph: Graph): string {
  const printer = new Printer();
  const inputs = graph.inputs.map((value) => printer.typed(value)).join(', ');
  const lines = [`graph ${word(graph.name)} (${inputs}) opset ${graph.opset}`];
  for (const node of graph.nodes) lines.push(printer.line(node));
  lines.push(`return ${graph.outputs.map((value) => printer.read(value)).join(', ')}`);
  return `${lines.join('\n')}\n`;
}

const longestInline = 8;

/** Names that need no quotes. */
const bareWord = /^[A-Za-z/][\w/.-]*$/;

const word = (name: string): string => (bareWord.test(name) && name !== 'return' ? name : JSON.stringify(name));

const printDim = (dim: Dim): string => (typeof dim === 'number' ? `${dim}` : word(dim));

const printShape = (shape: readonly Dim[] | undefined): string => (shape ? `[${shape.map(printDim).join(', ')}]` : '[?]');

class Printer {
  private readonly written = new Set<Value>();

  typed(value: Value): string {
    return value.type ? `${word(value.name)}: ${value.type.dtype}${printShape(value.type.shape)}` : word(value.name);
  }

  read(value: Value | undefined): string {
    if (!value) return '_';
    if (!value.constant || this.written.has(value)) return word(value.name);
    this.written.add(value);
    return `${word(value.name)}=${printTensor(value.constant)}`;
  }

  line(node: Node): string {
    const outputs = node.outputs.map((value) => this.typed(value)).join(', ');
    const opaque = node.opaque ? `<${word(node.opaque.domain || 'ai.onnx')}, ${word(node.opaque.opType)}, ${node.opaque.ownInputs}>` : '';
    const inputs = node.inputs.map((value) => this.read(value)).join(', ');
    const attrs = Object.entries(node.attrs as Record<string, AttributeValue>)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}=${printAttribute(value, spec(node.op).attrs?.[name]?.kind)}`)
      .join(', ');
    const name = node.name === node.outputs[0]?.name ? '' : ` @${word(node.name)}`;
    return `${outputs}${outputs && ' '}= ${node.op}${opaque}(${inputs})${attrs && ` {${attrs}}`}${name}`;
  }
}

function printAttribute(value: AttributeValue, kind: string | undefined): string {
  if (value instanceof Tensor) return printTensor(value);
  if (typeof value === 'number') return kind === 'float' ? float(value) : `${value}`;
  if (typeof value === 'string') return kind === 'dtype' ? value : JSON.stringify(value);
  return `[${(value ?? []).map((x) => (typeof x === 'string' ? JSON.stringify(x) : kind === 'floats' ? float(x) : `${x}`)).join(', ')}]`;
}

function printTensor(tensor: Tensor): string {
  const type = `${tensor.dtype}${printShape(tensor.shape)}`;
  const element = (at: number): string => printElement(tensor, at);
  if (tensor.size > 1 && allEqual(tensor)) return `${type}{${element(0)}}`;
  if (tensor.size > longestInline) return `${type}#${hashOf(tensor.raw)}`;
  return `${type}{${Array.from({ length: tensor.size }, (_, at) => element(at)).join(', ')}}`;
}

function allEqual(tensor: Tensor): boolean {
  const { raw } = tensor;
  const step = tensor.data.BYTES_PER_ELEMENT;
  for (let at = step; at < raw.length; at++) if (raw[at] !== raw[at - step]) return false;
  return true;
}

function printElement(tensor: Tensor, at: number): string {
  const value = tensor.data[at] as number | bigint;
  if (typeof value === 'bigint') return `${value}`;
  if (tensor.dtype === 'float32') return float(value);
  if (tensor.dtype === 'float16') return float(fromFloat16(value));
  return special(value) ?? `${value}`;
}

function special(value: number): string | undefined {
  if (Object.is(value, -0)) return '-0';
  return Number.isFinite(value) ? undefined : Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

/** The shortest decimal that reads back as the same float32. */
function float(value: number): string {
  const single = Math.fround(value);
  const name = special(single);
  if (name) return name;
  for (let digits = 1; digits < 9; digits++) {
    const text = single.toPrecision(digits);
    if (Math.fround(Number(text)) === single) return String(Number(text));
  }
  return String(Number(single.toPrecision(9)));
}

/** FNV-1a, 32 bits. */
function hashOf(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

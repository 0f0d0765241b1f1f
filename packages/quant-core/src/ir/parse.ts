import { allocate, type DType, dtypes } from '../tensor/dtype.js';
import { sizeOf, Tensor } from '../tensor/tensor.js';
import { type Dim, Graph, type OpaqueSource, type Value, type ValueType } from './graph.js';
import { type AttributeValue, type Attrs, type OpType, ops, spec } from './ops.js';

/**
 * Read the text that `print` writes. A tensor with one element in braces is filled with it. Constants written by their hash are taken
 * from `constants`, by name. Throws an Error with line and column on text that is not a graph.
 */
export function parse(text: string, constants: ReadonlyMap<string, Tensor> = new Map()): Graph {
  return new Parser(text, constants).graph();
}

class Parser {
  private at = 0;
  private readonly values = new Map<string, Value>();
  private readonly result = new Graph();

  constructor(
    private readonly source: string,
    private readonly constants: ReadonlyMap<string, Tensor>,
  ) {}

  graph(): Graph {
    this.want('graph');
    this.result.name = this.word();
    this.want('(');
    for (const [name, type] of this.list(')', () => this.typed())) {
      if (!type) throw this.error(`input ${name} has no type`);
      this.define(this.result.input(name, type), name);
    }
    this.want('opset');
    this.result.opset = this.number();
    while (this.match(/return(?![\w/.-])/y) === undefined) this.node();
    while (!this.atEnd()) {
      this.result.outputs.push(this.operand() ?? this.fail('an output is missing'));
      if (!this.take(',')) break;
    }
    if (!this.atEnd()) throw this.error('text after the end');
    return this.result;
  }

  private node(): void {
    const outputs = this.peek('=') ? [] : [this.typed()];
    while (this.take(',')) outputs.push(this.typed());
    this.want('=');
    const op = this.word();
    if (!Object.hasOwn(ops, op)) throw this.error(`unknown op ${op}`);
    const opaque = this.take('<') ? this.opaque() : undefined;
    this.want('(');
    const inputs = this.list(')', () => this.operand());
    const attrs = this.take('{') ? Object.fromEntries(this.list('}', () => this.attribute(op as OpType))) : {};
    const name = this.take('@') ? this.word() : outputs[0]?.[0];
    const node = this.result.node(op as OpType, inputs, attrs as Attrs<OpType>, {
      name: name ?? op,
      outputNames: outputs.map(([output]) => output),
    });
    node.opaque = opaque;
    for (const [port, [output, type]] of outputs.entries()) {
      const value = node.output(port);
      value.type = type;
      this.define(value, output);
    }
  }

  private opaque(): OpaqueSource {
    const domain = this.word();
    this.want(',');
    const opType = this.word();
    this.want(',');
    const ownInputs = this.number();
    this.want('>');
    return { domain: domain === 'ai.onnx' ? '' : domain, opType, ownInputs, proto: undefined };
  }

  private define(value: Value, name: string): void {
    if (value.name !== name) throw this.error(`${name} is written twice`);
    this.values.set(name, value);
  }

  private operand(): Value | undefined {
    if (this.take('_')) return undefined;
    const name = this.word();
    if (!this.take('=')) return this.values.get(name) ?? this.fail(`${name} is read before it is written`);
    const value = this.result.constant(name, this.tensor(name));
    this.define(value, name);
    return value;
  }

  private attribute(op: OpType): [string, AttributeValue] {
    const name = this.word();
    const known = spec(op).attrs ?? {};
    const kind = Object.hasOwn(known, name) ? known[name]?.kind : undefined;
    this.want('=');
    switch (kind) {
      case 'int':
        return [name, this.number()];
      case 'float':
        return [name, Math.fround(this.number())];
      case 'string':
        return [name, this.word()];
      case 'dtype':
        return [name, this.dtype()];
      case 'ints':
        this.want('[');
        return [name, this.list(']', () => this.number())];
      case 'floats':
        this.want('[');
        return [name, this.list(']', () => Math.fround(this.number()))];
      case 'strings':
        this.want('[');
        return [name, this.list(']', () => this.word())];
      case 'tensor':
        return [name, this.tensor(name)];
      default:
        throw this.error(`${op} has no attribute ${name}`);
    }
  }

  private typed(): [string, ValueType | undefined] {
    const name = this.word();
    return [name, this.take(':') ? this.type() : undefined];
  }

  private dtype(): DType {
    const name = this.word();
    if (!Object.hasOwn(dtypes, name)) throw this.error(`unknown element type ${name}`);
    return name as DType;
  }

  private type(): ValueType {
    const dtype = this.dtype();
    this.want('[');
    if (this.take('?')) {
      this.want(']');
      return { dtype };
    }
    const dim = (): Dim => (this.match(/-?\d/y, true) ? this.number() : this.word());
    return { dtype, shape: this.list(']', dim) };
  }

  private tensor(name: string): Tensor {
    const { dtype, shape } = this.type();
    if (!shape?.every((dim) => typeof dim === 'number')) throw this.error(`constant ${name} needs a static shape`);
    if (this.take('#')) {
      this.match(/[0-9a-f]+/y);
      return this.constants.get(name) ?? this.fail(`the elements of ${name} are not in the text`);
    }
    this.want('{');
    const elements = this.list('}', () => this.element());
    const size = sizeOf(shape as number[]);
    if (elements.length !== size && elements.length !== 1) throw this.error(`${name} has ${elements.length} elements, wanted ${size}`);
    const data = allocate(dtype, size);
    for (let i = 0; i < size; i++) {
      const element = (elements.length === 1 ? elements[0] : elements[i]) as string;
      if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(element);
      else data[i] = dtype === 'float16' ? toFloat16(toNumber(element)) : toNumber(element);
    }
    return new Tensor(dtype, shape as number[], data);
  }

  private element(): string {
    return this.match(/-?(?:inf|nan|[\d.]+(?:e[+-]?\d+)?)/y) ?? this.fail('a number is missing');
  }

  private number(): number {
    return toNumber(this.element());
  }

  private list<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    if (this.take(end)) return items;
    do items.push(item());
    while (this.take(','));
    this.want(end);
    return items;
  }

  private word(): string {
    const quoted = this.match(/"(?:[^"\\\n]|\\.)*"/y);
    if (quoted !== undefined) return JSON.parse(quoted) as string;
    return this.match(/[A-Za-z/][\w/.-]*/y) ?? this.fail('a name is missing');
  }

  private match(pattern: RegExp, peek = false): string | undefined {
    this.space();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.source)?.[0];
    if (found !== undefined && !peek) this.at += found.length;
    return found;
  }

  private space(): void {
    while (/\s/.test(this.source[this.at] ?? '')) this.at++;
  }

  private atEnd(): boolean {
    this.space();
    return this.at >= this.source.length;
  }

  private peek(token: string): boolean {
    this.space();
    return this.source.startsWith(token, this.at);
  }

  private take(token: string): boolean {
    if (!this.peek(token)) return false;
    this.at += token.length;
    return true;
  }

  private want(token: string): void {
    if (!this.take(token)) throw this.error(`wanted ${token}`);
  }

  private fail(detail: string): never {
    throw this.error(detail);
  }

  private error(detail: string): Error {
    const before = this.source.slice(0, this.at).split('\n');
    return new Error(`graph text, line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}: ${detail}`);
  }
}

const toNumber = (text: string): number =>
  text === 'nan'
    ? Number.NaN
    : text.endsWith('inf')
      ? text.startsWith('-')
        ? Number.NEGATIVE_INFINITY
        : Number.POSITIVE_INFINITY
      : Number(text);

/** The binary16 bit pattern of a number that binary16 can hold. */
function toFloat16(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size === Number.POSITIVE_INFINITY) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | Math.round(size / 2 ** -24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | Math.round((size / 2 ** exponent - 1) * 1024);
}

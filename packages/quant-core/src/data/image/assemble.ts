/**
 * Assembles the part of the WebAssembly text format that our kernels are written in: one module, functions over i32 and v128, instructions in
 * folded form `(op immediate… operand…)`, and `(loop $label body…)`. Any assembler of the format takes the same text.
 * Source: WebAssembly Core Specification 2.0, chapters 5 (binary format) and 6 (text format).
 */

const opcodes: Readonly<Record<string, readonly number[]>> = {
  br_if: [0x0d],
  'local.get': [0x20],
  'local.set': [0x21],
  'i32.load': [0x28],
  'i32.load8_u': [0x2d],
  'i32.const': [0x41],
  'i32.lt_s': [0x48],
  'i32.lt_u': [0x49],
  'i32.gt_s': [0x4a],
  'i32.add': [0x6a],
  'i32.sub': [0x6b],
  'i32.mul': [0x6c],
  'i32.shl': [0x74],
  'i32.shr_s': [0x75],
  'v128.load': [0xfd, 0],
  'v128.load32_splat': [0xfd, 9],
  'v128.store': [0xfd, 11],
  'i32x4.splat': [0xfd, 17],
  'v128.store8_lane': [0xfd, 88],
  'v128.store32_lane': [0xfd, 90],
  'v128.load32_zero': [0xfd, 92],
  'i8x16.narrow_i16x8_u': [0xfd, 102],
  'i16x8.narrow_i32x4_s': [0xfd, 133, 1],
  'i16x8.extend_low_i8x16_u': [0xfd, 137, 1],
  'i16x8.extend_high_i8x16_u': [0xfd, 138, 1],
  'i32x4.extend_low_i16x8_u': [0xfd, 169, 1],
  'i32x4.extend_high_i16x8_u': [0xfd, 170, 1],
  'i32x4.shr_s': [0xfd, 172, 1],
  'i32x4.add': [0xfd, 174, 1],
  'i32x4.mul': [0xfd, 181, 1],
};

/** Instructions that have alignment and offset after the opcode. */
const accesses = /\.(load|store)/;
const types: Readonly<Record<string, number>> = { i32: 0x7f, v128: 0x7b };

type Form = string | Form[];

/** The binary of a module that imports its memory as `env.memory` and exports each of its functions. */
export function assemble(text: string): Uint8Array<ArrayBuffer> {
  const functions = parse(text).map(assembleFunction);
  const all = [
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(1, vector(functions.map(({ type }) => type))),
    section(2, vector([[...named('env'), ...named('memory'), 0x02, 0x00, 1]])),
    section(3, vector(functions.map((_, index) => [index]))),
    section(7, vector(functions.map(({ name }, index) => [...named(name), 0x00, index]))),
    section(10, vector(functions.map(({ body }) => [...unsigned(body.length), ...body]))),
  ];
  return Uint8Array.from(all.flat());
}

function parse(text: string): Form[][] {
  const tokens = text.replace(/;;.*$/gm, '').match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const form = (): Form => {
    const token = tokens[at++] as string;
    if (token !== '(') return token;
    const list: Form[] = [];
    while (tokens[at] !== ')') list.push(form());
    at++;
    return list;
  };
  const forms: Form[][] = [];
  while (at < tokens.length) forms.push(form() as Form[]);
  return forms;
}

/** `(func $name (param $a i32)… (local $b v128)… instruction…)` */
function assembleFunction(form: Form[]): { name: string; type: number[]; body: number[] } {
  const names: string[] = [];
  const of = { param: [] as number[], local: [] as number[] };
  const labels: string[] = [];
  const code: number[] = [];
  const emit = (instruction: Form): void => {
    const [op, ...rest] = instruction as [string, ...Form[]];
    if (op === 'param' || op === 'local') {
      names.push(rest[0] as string);
      of[op].push(types[rest[1] as string] as number);
    } else if (op === 'loop') {
      labels.push(rest[0] as string);
      code.push(0x03, 0x40);
      rest.slice(1).forEach(emit);
      code.push(0x0b);
      labels.pop();
    } else {
      const opcode = opcodes[op];
      if (!opcode) throw new SyntaxError(`unknown instruction "${op}"`);
      rest.filter((part) => typeof part !== 'string').forEach(emit);
      code.push(...opcode);
      const immediates = rest.filter((part) => typeof part === 'string');
      if (accesses.test(op)) code.push(0, ...unsigned(Number(immediates.find((part) => part.startsWith('offset='))?.slice(7) ?? 0)));
      if (op === 'br_if') code.push(labels.length - 1 - labels.lastIndexOf(immediates[0] as string));
      else if (op.startsWith('local.')) code.push(names.indexOf(immediates[0] as string));
      else if (op === 'i32.const') code.push(...signed(Number(immediates[0])));
      else if (op.endsWith('_lane')) code.push(Number(immediates.at(-1)));
    }
  };
  form.slice(2).forEach(emit);
  const locals = vector(of.local.map((type) => [1, type]));
  return {
    name: (form[1] as string).slice(1),
    type: [0x60, ...vector(of.param.map((type) => [type])), 0],
    body: [...locals, ...code, 0x0b],
  };
}

const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];
const vector = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const named = (name: string): number[] => [...unsigned(name.length), ...Buffer.from(name)];

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

function signed(value: number): number[] {
  const low = value & 127;
  const rest = value >> 7;
  const last = (rest === 0 && !(low & 64)) || (rest === -1 && low & 64);
  return last ? [low] : [low | 128, ...signed(rest)];
}

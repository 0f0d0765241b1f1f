/** Keys under which exporters and people leave the names of classes in `metadata_props` of an ONNX file; the first that can be read is taken. */
const keys = ['classes', 'class_names', 'classnames', 'names', 'labels', 'label_names', 'id2label', 'categories'];

const mostNames = 65_536;

/**
 * Names of classes, in the order of the outputs, from the metadata of a model: a JSON list, a JSON or Python dict from numbers to names
 * (Ultralytics writes `{0: 'person', 1: 'bicycle'}`), a Python list or tuple, or names by line or comma.
 * `undefined` where no key holds at least two names.
 */
export function classNamesFrom(metadata: Readonly<Record<string, string>>): string[] | undefined {
  const byKey = new Map(Object.entries(metadata).map(([key, value]) => [key.toLowerCase().replaceAll('-', '_'), value]));
  for (const key of keys) {
    const text = byKey.get(key)?.trim();
    const names = text ? namesIn(text) : undefined;
    if (names && names.length > 1 && names.length <= mostNames && names.every((name) => name !== '')) return names;
  }
  return undefined;
}

function namesIn(text: string): string[] | undefined {
  if (/^[[({]/.test(text)) return listOf(literalOf(text));
  return text.split(text.includes('\n') ? '\n' : ',').map((name) => name.trim());
}

/** A list of texts; a dict whose keys are 0, 1, … in any order; or, as `label2id` has it, a dict from names to 0, 1, …. */
function listOf(value: unknown): string[] | undefined {
  if (Array.isArray(value)) return value.every(isName) ? value.map(String) : undefined;
  if (!(value instanceof Map)) return undefined;
  return inOrder([...value]) ?? inOrder([...value].map(([name, number]) => [number, name]));
}

function inOrder(pairs: readonly (readonly [unknown, unknown])[]): string[] | undefined {
  const names = new Array<string | undefined>(pairs.length);
  for (const [number, name] of pairs) {
    const place = typeof number === 'string' && /^\d{1,6}$/.test(number) ? Number(number) : number;
    if (typeof place !== 'number' || !Number.isInteger(place) || place < 0 || place >= names.length || !isName(name)) return undefined;
    names[place] = String(name);
  }
  return names.every((name) => name !== undefined) ? names : undefined;
}

const isName = (value: unknown) => typeof value === 'string' || typeof value === 'number';

/** A literal of JSON or Python: texts in either quote, numbers, lists, tuples, dicts (as maps). `undefined` for anything else. */
function literalOf(text: string): unknown {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[[\](){}:,]|-?\d+(?:\.\d+)?|\s+|./gsu) ?? [];
  const rest = tokens.filter((token) => token.trim() !== '');
  try {
    const value = parse(rest);
    return rest.length === 0 ? value : undefined;
  } catch {
    return undefined;
  }
}

const closing: Record<string, string> = { '[': ']', '(': ')', '{': '}' };

/** Takes one value off the front. Two levels are enough for a list of names, so deep nesting is refused. */
function parse(tokens: string[], depth = 0): unknown {
  const token = tokens.shift();
  if (token === undefined || depth > 2) throw new SyntaxError();
  if (/^["']/.test(token)) return textOf(token);
  if (/^-?\d/.test(token)) return Number(token);
  const close = closing[token];
  if (close === undefined) throw new SyntaxError();
  const items: [unknown, unknown][] = [];
  while (tokens[0] !== close) {
    const first = parse(tokens, depth + 1);
    if (token === '{') {
      if (tokens.shift() !== ':') throw new SyntaxError();
      items.push([first, parse(tokens, depth + 1)]);
    } else items.push([items.length, first]);
    if (tokens[0] === ',') tokens.shift();
    else if (tokens[0] !== close) throw new SyntaxError();
  }
  tokens.shift();
  return token === '{' ? new Map(items) : items.map(([, item]) => item);
}

const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r' };

function textOf(token: string): string {
  return token
    .slice(1, -1)
    .replace(/\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|\\(.)/gis, (_, u, x, one) =>
      u || x ? String.fromCharCode(Number.parseInt(u ?? x, 16)) : (escapes[one] ?? one),
    );
}

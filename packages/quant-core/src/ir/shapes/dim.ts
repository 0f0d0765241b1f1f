import type { Dim } from '../graph.js';

/**
 * Arithmetic on dimensions. A symbolic dimension is a polynomial with integer coefficients over atoms, written as text:
 * `N`, `12*N`, `H*W + 1`, `floor(H - 1 / 2)` (the bar reaches over the whole sum), `min(N, 5)`. An atom is a symbol, which stands for
 * a size of at least 1, or one of the functions. Texts are canonical: equal polynomials have equal texts.
 * Text that is not an expression (`batch size`) is a symbol of its own.
 */

interface Term {
  coefficient: number;
  /** Sorted, with repetition; empty for the constant term. */
  atoms: readonly string[];
}

type Polynomial = readonly Term[];

const functions = ['floor', 'min', 'max'] as const;
type Fn = (typeof functions)[number];

const parsed = new Map<string, Polynomial>();
const cacheLimit = 20_000;
/** Longer expressions are replaced by a symbol of their own, so that no graph can make them grow without bound. */
const longest = 400;

function polynomial(dim: Dim): Polynomial {
  if (typeof dim === 'number') return dim === 0 ? [] : [{ coefficient: dim, atoms: [] }];
  let result = parsed.get(dim);
  if (!result) {
    result = (dim.length <= longest ? new Parser(dim).whole() : undefined) ?? [{ coefficient: 1, atoms: [dim] }];
    if (parsed.size >= cacheLimit) parsed.clear();
    parsed.set(dim, result);
  }
  return result;
}

const byAtoms = (a: Term, b: Term): number => {
  if (a.atoms.length !== b.atoms.length) return b.atoms.length - a.atoms.length;
  const x = a.atoms.join('*');
  const y = b.atoms.join('*');
  return x < y ? -1 : x > y ? 1 : 0;
};

function collect(terms: readonly Term[]): Polynomial {
  const sums = new Map<string, Term>();
  for (const term of terms) {
    const key = term.atoms.join('\0');
    const before = sums.get(key);
    sums.set(key, before ? { ...before, coefficient: before.coefficient + term.coefficient } : term);
  }
  return [...sums.values()].filter((term) => term.coefficient !== 0).sort(byAtoms);
}

function multiply(a: Polynomial, b: Polynomial): Polynomial {
  return collect(a.flatMap((x) => b.map((y) => ({ coefficient: x.coefficient * y.coefficient, atoms: [...x.atoms, ...y.atoms].sort() }))));
}

function text(terms: Polynomial): Dim {
  if (terms.length === 0) return 0;
  const first = terms[0] as Term;
  if (terms.length === 1 && first.atoms.length === 0) return first.coefficient;
  let out = '';
  for (const [i, { coefficient, atoms }] of terms.entries()) {
    const size = Math.abs(coefficient);
    const body = atoms.length === 0 ? `${size}` : size === 1 ? atoms.join('*') : `${size}*${atoms.join('*')}`;
    out += i === 0 ? (coefficient < 0 ? `-${body}` : body) : coefficient < 0 ? ` - ${body}` : ` + ${body}`;
  }
  return atom(out);
}

/** Start of the name of a symbol for an expression that grew too long. It may stand for a difference, so nothing is known of its value. */
const hashed = 'size_';

function atom(name: string): string {
  if (name.length <= longest) return name;
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < name.length; i++) hash = BigInt.asUintN(64, (hash ^ BigInt(name.charCodeAt(i))) * 0x100000001b3n);
  return `${hashed}${hash.toString(16)}`;
}

/** sum := ['-'] product ((' + ' | ' - ') product)*; product := factor ('*' factor)*; factor := integer | call | name. */
class Parser {
  private at = 0;
  constructor(private readonly source: string) {}

  whole(): Polynomial | undefined {
    const result = this.sum();
    return this.at === this.source.length ? result : undefined;
  }

  private take(token: string): boolean {
    if (!this.source.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  private sum(): Polynomial | undefined {
    let sign = this.take('-') ? -1 : 1;
    const terms: Term[] = [];
    for (;;) {
      const product = this.product();
      if (!product) return undefined;
      for (const term of product) terms.push({ ...term, coefficient: sign * term.coefficient });
      if (this.take(' + ')) sign = 1;
      else if (this.take(' - ')) sign = -1;
      else return collect(terms);
    }
  }

  private product(): Polynomial | undefined {
    let result = this.factor();
    while (result && this.take('*')) {
      const next = this.factor();
      result = next && multiply(result, next);
    }
    return result;
  }

  private factor(): Polynomial | undefined {
    const start = this.at;
    for (const fn of functions) {
      if (!this.take(`${fn}(`)) continue;
      const a = this.sum();
      if (!a || !this.take(fn === 'floor' ? ' / ' : ', ')) return undefined;
      const b = this.sum();
      if (!b || !this.take(')')) return undefined;
      const result = apply(fn, text(a), text(b));
      return result === this.source.slice(start, this.at) ? [{ coefficient: 1, atoms: [result] }] : polynomial(result);
    }
    const match = /[^\s*()+,]+/y;
    match.lastIndex = this.at;
    const name = match.exec(this.source)?.[0];
    if (!name) return undefined;
    this.at += name.length;
    if (/^\d+$/.test(name)) return polynomial(Number(name));
    return /^\d/.test(name) ? undefined : [{ coefficient: 1, atoms: [name] }];
  }
}

const apply = (fn: Fn, a: Dim, b: Dim): Dim => (fn === 'floor' ? divideDims(a, b) : fn === 'min' ? minDims(a, b) : maxDims(a, b));

/** `a + b`. */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  if (a === 0) return b;
  if (b === 0) return a;
  return text(collect([...polynomial(a), ...polynomial(b)]));
}

/** `a - b`. */
export function subtractDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (a === b) return 0;
  return addDims(a, multiplyDims(b, -1));
}

/** `a * b`. */
export function multiplyDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a * b;
  if (a === 1) return b;
  if (b === 1) return a;
  return text(multiply(polynomial(a), polynomial(b)));
}

/** The product of all dimensions; 1 for none. */
export function productOfDims(dims: readonly Dim[]): Dim {
  let product: Dim = 1;
  for (const dim of dims) product = multiplyDims(product, dim);
  return product;
}

/** `a / b` when it divides without rest, as polynomials; otherwise undefined. */
export function divideDimsExactly(a: Dim, b: Dim): Dim | undefined {
  if (typeof a === 'number' && typeof b === 'number') return b !== 0 && a % b === 0 ? a / b : undefined;
  if (a === b) return 1;
  if (b === 0) return undefined;
  const over = polynomial(a);
  const under = polynomial(b);
  if (over.length === 0) return 0;
  const quotients = over.map((term) => divideTerm(term, under[0] as Term));
  if (under.length === 1) return quotients.every((q) => q !== undefined) ? text(collect(quotients as Term[])) : undefined;
  const lead = quotients[0];
  if (!lead) return undefined;
  return text(multiply([lead], under)) === text(over) ? text([lead]) : undefined;
}

function divideTerm(a: Term, b: Term): Term | undefined {
  if (a.coefficient % b.coefficient !== 0) return undefined;
  const atoms = [...a.atoms];
  for (const name of b.atoms) {
    const at = atoms.indexOf(name);
    if (at < 0) return undefined;
    atoms.splice(at, 1);
  }
  return { coefficient: a.coefficient / b.coefficient, atoms };
}

/** `floor(a / b)`. What divides exactly is taken out of the floor. */
export function divideDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return Math.floor(a / b);
  if (b === 1) return a;
  const exact = divideDimsExactly(a, b);
  if (exact !== undefined) return exact;
  const under = polynomial(b);
  if (under.length !== 1) return atom(`floor(${a} / ${b})`);
  const whole: Term[] = [];
  const rest: Term[] = [];
  for (const term of polynomial(a)) {
    const quotient = divideTerm(term, under[0] as Term);
    if (quotient) whole.push(quotient);
    else rest.push(term);
  }
  let left: Dim = text(rest);
  let carried = 0;
  if (typeof b === 'number') {
    // Keep the constant in 0 … b-1, so that equal sizes have equal texts.
    const constant = rest.find((term) => term.atoms.length === 0)?.coefficient ?? 0;
    carried = Math.floor(constant / b);
    left = addDims(left, -carried * b);
    if (typeof left === 'number') return addDims(text(whole), Math.floor(left / b) + carried);
  }
  return addDims(addDims(text(whole), carried), atom(`floor(${left} / ${b})`));
}

/** The least value `dim` can take when every symbol is at least 1; `-Infinity` when not known. */
export const leastOf = (dim: Dim): number => leastSum(polynomial(dim));

function leastSum(terms: Polynomial): number {
  let least = 0;
  for (const { coefficient, atoms } of terms) {
    if (atoms.length === 0) least += coefficient;
    else if (coefficient < 0 || atoms.some((name) => name.startsWith(hashed))) return Number.NEGATIVE_INFINITY;
    else if (!atoms.some((name) => functions.some((fn) => name.startsWith(`${fn}(`)))) least += coefficient;
  }
  return least;
}

/** The least value of `a - b`, worked out on the sums: as text, a long difference would be a symbol that tells nothing. */
const leastDifference = (a: Dim, b: Dim): number =>
  leastSum(collect([...polynomial(a), ...multiply(polynomial(b), [{ coefficient: -1, atoms: [] }])]));

const call = (fn: 'min' | 'max', a: Dim, b: Dim): Dim => atom(String(a) < String(b) ? `${fn}(${a}, ${b})` : `${fn}(${b}, ${a})`);

/** The smaller of two dimensions. */
export function minDims(a: Dim, b: Dim): Dim {
  if (a === b) return a;
  if (leastDifference(a, b) >= 0) return b;
  if (leastDifference(b, a) >= 0) return a;
  return call('min', a, b);
}

/** The larger of two dimensions. */
export function maxDims(a: Dim, b: Dim): Dim {
  if (a === b) return a;
  if (leastDifference(a, b) >= 0) return a;
  if (leastDifference(b, a) >= 0) return b;
  return call('max', a, b);
}

/** True when the two can never be equal. */
export function neverEqual(a: Dim, b: Dim): boolean {
  if (a === b) return false;
  if (typeof a === 'number' && typeof b === 'number') return true;
  return leastDifference(a, b) > 0 || leastDifference(b, a) > 0;
}

/** True when the two are equal whatever the symbols stand for. */
export function alwaysEqual(a: Dim, b: Dim): boolean {
  if (a === b) return true;
  if (typeof a === 'number' && typeof b === 'number') return false;
  return subtractDims(a, b) === 0;
}

/** Replace symbols by numbers. A name that is not a symbol of `dim` is ignored. */
export function bindDim(dim: Dim, sizes: Readonly<Record<string, number>>): Dim {
  if (typeof dim === 'number') return dim;
  const size = Object.hasOwn(sizes, dim) ? sizes[dim] : undefined;
  if (size !== undefined) return size;
  let sum: Dim = 0;
  for (const { coefficient, atoms } of polynomial(dim)) {
    let product: Dim = coefficient;
    for (const name of atoms) product = multiplyDims(product, bindAtom(name, sizes));
    sum = addDims(sum, product);
  }
  return sum;
}

function bindAtom(name: string, sizes: Readonly<Record<string, number>>): Dim {
  const size = Object.hasOwn(sizes, name) ? sizes[name] : undefined;
  if (size !== undefined) return size;
  const fn = functions.find((candidate) => name.startsWith(`${candidate}(`) && name.endsWith(')'));
  if (!fn) return name;
  const parts = splitCall(name.slice(fn.length + 1, -1), fn === 'floor' ? ' / ' : ', ');
  return parts ? apply(fn, bindDim(parts[0], sizes), bindDim(parts[1], sizes)) : name;
}

function splitCall(inside: string, separator: string): [string, string] | undefined {
  let depth = 0;
  for (let at = 0; at < inside.length; at++) {
    if (inside[at] === '(') depth++;
    else if (inside[at] === ')') depth--;
    else if (depth === 0 && inside.startsWith(separator, at)) {
      return [inside.slice(0, at), inside.slice(at + separator.length)];
    }
  }
  return undefined;
}

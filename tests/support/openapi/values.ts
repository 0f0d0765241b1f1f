import fc from 'fast-check';

/** The part of JSON Schema that the OpenAPI document uses. */
export interface JsonSchema {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  patternProperties?: Record<string, JsonSchema>;
  items?: JsonSchema | JsonSchema[];
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
}

/** Values that a schema allows; references are already replaced. */
export function valuesOf(schema: JsonSchema): fc.Arbitrary<unknown> {
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map(valuesOf));
  switch (schema.type) {
    case 'string':
      return stringsOf(schema);
    case 'integer':
      return fc.integer({ min: schema.minimum ?? -1000, max: schema.maximum ?? 1000 });
    case 'number':
      return numbersOf(schema);
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return Array.isArray(schema.items)
        ? fc.tuple(...schema.items.map(valuesOf))
        : fc.array(valuesOf(schema.items ?? {}), {
            minLength: schema.minItems ?? 0,
            maxLength: Math.min(schema.maxItems ?? 4, (schema.minItems ?? 0) + 3),
          });
    case 'object':
      return objectsOf(schema);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

function stringsOf({ pattern, minLength = 0, maxLength = 40 }: JsonSchema): fc.Arbitrary<string> {
  return pattern === undefined
    ? fc.string({ minLength, maxLength: Math.min(maxLength, minLength + 40), unit: fc.constantFrom(...'aZ09-_./ é€𝄞') })
    : fc.stringMatching(new RegExp(pattern));
}

function numbersOf({ minimum = -1e6, maximum = 1e6, exclusiveMinimum, exclusiveMaximum }: JsonSchema): fc.Arbitrary<number> {
  const [min, max] = [exclusiveMinimum ?? minimum, exclusiveMaximum ?? maximum];
  return fc.double({
    min,
    max,
    minExcluded: exclusiveMinimum !== undefined,
    maxExcluded: exclusiveMaximum !== undefined,
    noNaN: true,
  });
}

function objectsOf({ properties = {}, required = [], additionalProperties, patternProperties }: JsonSchema): fc.Arbitrary<unknown> {
  const known = fc.record(Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, valuesOf(schema)])), {
    requiredKeys: required.filter((name) => name in properties),
  });
  const others = Object.values(patternProperties ?? {})[0] ?? (typeof additionalProperties === 'object' ? additionalProperties : undefined);
  if (others === undefined) return known;
  return fc
    .tuple(fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), valuesOf(others), { maxKeys: 3 }), known)
    .map(([more, own]) => ({ ...more, ...own }));
}

/** A value in which one place may have become something else. */
export function damaged(value: unknown): fc.Arbitrary<unknown> {
  return fc.tuple(fc.nat(40), nonsense).map(([place, other]) => {
    let at = 0;
    const walk = (one: unknown): unknown => {
      if (at++ === place) return other;
      if (Array.isArray(one)) return one.map(walk);
      if (typeof one !== 'object' || one === null) return one;
      return Object.fromEntries(Object.entries(one).map(([key, item]) => [key, walk(item)]));
    };
    return walk(value);
  });
}

const nonsense = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown[]>('', '\u0000', '__proto__', 'x'.repeat(5000), -1, 0, 1e308, 2 ** 53, null, [], {}, [[[[[]]]]], {
    constructor: { prototype: 1 },
  }),
);

/** Text that a header or a place in a URL may be filled with. */
export const oddText = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc.string({ unit: 'binary', maxLength: 10 }),
  fc.constantFrom(
    '',
    ' ',
    '0',
    '-1',
    '1e9',
    '99999999999999999999',
    'NaN',
    'null',
    'true',
    '*',
    '"',
    '""',
    'W/"a"',
    '%',
    '%00',
    '../..',
    '__proto__',
    'é',
    'x'.repeat(3000),
  ),
);

import { ServiceError } from '@octet/contracts';

/** Deeper than any body of this service, and far from what recursion over it could not take. */
const deepest = 64;

/**
 * Parse JSON that came from outside. Nesting is bounded, and keys that a careless copy would take for a prototype are refused.
 * @param bytes the text, or its bytes in UTF-8
 * @param what its name, for messages
 * @throws ServiceError JSON_INVALID
 */
export function parseJson(bytes: string | Buffer, what: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(
      (typeof bytes === 'string' ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes)).replace(/^\ufeff/, ''),
    );
  } catch (error) {
    const why = error instanceof SyntaxError ? error.message : 'it is not UTF-8 text';
    throw new ServiceError('JSON_INVALID', `${what} is not JSON: ${why}.`);
  }
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > deepest) throw new ServiceError('JSON_INVALID', `${what} is nested more than ${deepest} deep.`);
    const objects = level.filter((one): one is object => typeof one === 'object' && one !== null);
    if (objects.some((one) => Object.hasOwn(one, '__proto__')))
      throw new ServiceError('JSON_INVALID', `${what} has the key "__proto__", which is not allowed.`);
    level = objects.flatMap((one) => Object.values(one) as unknown[]);
  }
  return value;
}

/** A header value such as `form-data; name="a"`, taken apart. */
export interface Parameterised {
  /** What stands before the first semicolon, in lower case. */
  value: string;
  /** By name in lower case; `filename*` (RFC 8187) is decoded. */
  parameters: Map<string, string>;
}

/**
 * Take a header value with parameters apart.
 * @returns undefined where it is malformed or names a parameter twice
 */
export function headerParameters(header: string): Parameterised | undefined {
  const [first = ''] = header.split(';', 1);
  const parameters = new Map<string, string>();
  const next = /;\s*(?:([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"((?:\\["\\]|[^"])*)"|([^\s;"]*))\s*)?/y;
  let at = first.length;
  while (at < header.length) {
    next.lastIndex = at;
    const match = next.exec(header);
    if (match === null) return undefined;
    at = next.lastIndex;
    const [, name, quoted, token = ''] = match;
    if (name === undefined) continue;
    const key = name.toLowerCase();
    if (parameters.has(key)) return undefined;
    parameters.set(key, key.endsWith('*') ? extended(token) : quoted === undefined ? token : unquoted(quoted));
  }
  return { value: first.trim().toLowerCase(), parameters };
}

/** Browsers escape quotes and line ends in percent signs, others quotes with a backslash; a lone backslash belongs to a path. */
function unquoted(text: string): string {
  return text.replace(/\\(["\\])/g, '$1').replace(/%(22|0A|0D)/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** `UTF-8''name%20of%20file`; what cannot be decoded stays as it is. */
function extended(text: string): string {
  const [, encoded] = /^utf-8'[^']*'(.*)$/i.exec(text) ?? [];
  try {
    return encoded === undefined ? text : decodeURIComponent(encoded);
  } catch {
    return text;
  }
}

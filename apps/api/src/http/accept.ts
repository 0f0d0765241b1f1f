import { ServiceError } from '@octet/contracts';

interface Preference {
  type: string;
  quality: number;
}

/**
 * The media type that an Accept header wants most of those on offer (RFC 9110, section 12.5.1); the first where it has no preference.
 * @throws ServiceError NOT_ACCEPTABLE where it wants none of them
 */
export function preferredType<T extends string>(accept: string | undefined, offered: readonly [T, ...T[]]): T {
  if (accept === undefined || accept.trim() === '') return offered[0];
  const preferences = accept.split(',').map(readPreference);
  let best: T | undefined;
  let bestQuality = 0;
  for (const type of offered) {
    const quality = qualityOf(type, preferences);
    if (quality > bestQuality) [best, bestQuality] = [type, quality];
  }
  if (best === undefined)
    throw new ServiceError('NOT_ACCEPTABLE', `None of ${accept.slice(0, 200)} is available.`, { hint: `Ask for ${offered.join(' or ')}.` });
  return best;
}

function readPreference(text: string): Preference {
  const [type = '', ...parameters] = text.split(';').map((piece) => piece.trim().toLowerCase());
  const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
  return { type, quality: Number.isNaN(quality) ? 0 : quality };
}

/** Quality of the most specific range that covers the type. */
function qualityOf(type: string, preferences: readonly Preference[]): number {
  for (const range of [type, `${type.split('/')[0]}/*`, '*/*']) {
    const match = preferences.find((preference) => preference.type === range);
    if (match !== undefined) return match.quality;
  }
  return 0;
}

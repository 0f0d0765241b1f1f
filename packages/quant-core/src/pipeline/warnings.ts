import type { Report } from '../report/schema.js';

type Warning = Report['warnings'][number];

/** So many places are named. */
const mostNamed = 3;

const nameOf = (place: NonNullable<Warning['place']>) => Object.values(place).join(' ');

/**
 * Warnings as a report shows them: those of one code about different places become one that names the first few
 * places and says how many there are. The same warning is given once.
 */
export function foldWarnings(warnings: readonly Warning[]): Warning[] {
  const groups = new Map<string, Warning[]>();
  for (const warning of warnings) {
    const key = warning.place ? warning.code : `${warning.code} ${warning.text}`;
    const group = groups.get(key) ?? [];
    groups.set(key, group);
    if (!group.some(({ text }) => text === warning.text)) group.push(warning);
  }
  return [...groups.values()].map(folded);
}

function folded(group: readonly Warning[]): Warning {
  const [{ code, text }] = group as readonly [Warning];
  if (group.length === 1) return group[0] as Warning;
  const places = [...new Set(group.map(({ place = {} }) => nameOf(place)))];
  const more = places.length - mostNamed;
  const named = `${places.slice(0, mostNamed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return { code, text: `${text}. There are ${group.length} such warnings, of ${named}.` };
}

import { OctetError } from '../../errors.js';
import type { ArchiveEntry, OpenArchive } from '../archive.js';
import { TextLabels } from '../class-names.js';
import { collectTargets, type Upload } from '../materialise.js';
import type { Targets } from '../targets.js';
import { sampleKey } from './find.js';

/** Members that may hold the label of an image of the same name, in the order in which they are looked for. */
const labelEndings = ['cls', 'json', 'txt'] as const;
type Ending = (typeof labelEndings)[number];
/** Fields of a .json member that are taken for the label, where the config names none. */
const labelFields = ['label', 'cls', 'class', 'target'];
const mostLabelBytes = 64 * 1024;

/** Where the labels of the images are, member by member. */
export interface LabelMembers {
  ending: Ending;
  members: ArchiveEntry[];
}

/**
 * The member with the label of each image (`0001.jpg` and `0001.cls`, `.json` or `.txt`); nothing where no image has one.
 * @throws OctetError DATASET_LABELS where only some have one, or two images share one
 */
export function labelMembers(images: readonly ArchiveEntry[], others: readonly ArchiveEntry[]): LabelMembers | undefined {
  for (const ending of labelEndings) {
    const byKey = new Map(others.filter(({ name }) => name.endsWith(`.${ending}`)).map((entry) => [sampleKey(entry.name), entry] as const));
    const members = images.map(({ name }) => byKey.get(sampleKey(name)));
    if (!members.some((member) => member)) continue;
    const without = members.findIndex((member) => !member);
    if (without >= 0) {
      const name = images[without]?.name as string;
      throw new OctetError('DATASET_LABELS', `The image "${name}" has no label: "${sampleKey(name)}.${ending}" is missing.`, {
        file: name,
      });
    }
    if (new Set(members).size < members.length)
      throw new OctetError('DATASET_LABELS', `Two images share one .${ending} member; each sample holds one image.`);
    return { ending, members: members as ArchiveEntry[] };
  }
  return undefined;
}

/** Labels or values of a WebDataset, in the order of the images. Text is the name of a class. */
export async function readLabels(upload: Upload, { ending, members }: LabelMembers, assumptions: string[]): Promise<Targets> {
  const archive = upload.archive as OpenArchive;
  const rows: (number[] | string)[] = [];
  for (const member of members) rows.push(await readLabel(archive, member, ending, upload.config.label));
  const text = rows.findIndex((row) => typeof row === 'string');
  if (text < 0) return numbers(upload, rows as number[][], members);
  const names = rows.map((row) => (typeof row === 'string' ? row : row.join(' ')));
  if (upload.config.task === 'regression')
    throw new OctetError('DATASET_LABELS', `"${members[text]?.name}" holds the text "${names[text]}", which is not a value.`, {
      file: members[text]?.name as string,
    });
  const labels = new TextLabels(upload.name);
  for (const name of names) labels.add(name);
  return labels.finish(upload.classes, assumptions);
}

function numbers(upload: Upload, rows: readonly number[][], members: readonly ArchiveEntry[]): Promise<Targets> {
  const width = rows[0]?.length as number;
  const uneven = rows.findIndex((row) => row.length !== width);
  if (uneven >= 0)
    throw new OctetError('DATASET_LABELS', `"${members[uneven]?.name}" holds ${rows[uneven]?.length} values, the first ${width}.`, {
      file: members[uneven]?.name as string,
    });
  const whole = rows.every((row) => row.every(Number.isInteger));
  const target = { name: 'labels', dtype: whole ? 'int32' : 'float64', count: rows.length, shape: width === 1 ? [] : [width] } as const;
  const block = async function* () {
    yield Float64Array.from(rows.flat());
  };
  return collectTargets(upload, block(), target, rows.length);
}

async function readLabel(
  archive: OpenArchive,
  member: ArchiveEntry,
  ending: Ending,
  field: string | undefined,
): Promise<number[] | string> {
  const text = (await archive.read(member, mostLabelBytes)).toString('utf8').trim();
  const fail = (why: string) => new OctetError('DATASET_LABELS', `"${member.name}" ${why}.`, { file: member.name });
  if (ending !== 'json') {
    if (text === '' || text.includes('\n')) throw fail('is not one line with a label');
    return numberOf(text) ?? text;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw fail('is not JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const record = value as Record<string, unknown>;
    const name = field ?? labelFields.find((candidate) => candidate in record);
    if (name === undefined || !(name in record)) throw fail(`has no field ${field ? `"${field}"` : labelFields.join(', ')}`);
    value = record[name];
  }
  if (typeof value === 'number') return [value];
  if (typeof value === 'string' && value !== '') return value;
  if (Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'number')) return value as number[];
  throw fail('holds no number, text or list of numbers as its label');
}

function numberOf(text: string): number[] | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? [Number(text)] : undefined;
}

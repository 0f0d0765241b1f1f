import { OctetError } from '../errors.js';
import { classTargets, IntList, type Targets } from './targets.js';

/** Names of classes by their numbers, and who gave them. A class number is the place of its output in the model. */
export interface ClassOrder {
  names: readonly string[];
  /**
   * The config of the dataset, the metadata of the model, the training data of the same job, training data whose classes are numbers
   * (names are these numbers as texts), or the dataset itself.
   */
  from: 'config' | 'model' | 'training' | 'trainingNumbers' | 'dataset';
}

const sources: Record<ClassOrder['from'], string> = {
  config: '"classes" in the config of the dataset',
  model: 'the metadata of the model',
  training: 'the training data',
  trainingNumbers: 'the training data, whose classes are numbers',
  dataset: 'the schema of the dataset',
};

const mostClassNames = 65_536;
const shownNames = 10;

/** Order of the bytes of UTF-8, which is the order of code points. */
export function byName(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * The classes of a dataset in the order of their numbers: that of `order` where there is one, else the order of names. A list may be longer
 * than the names found: classes without samples keep their numbers. A list from a model that has none of the names found is ignored, and
 * that is said.
 * @param found names that the dataset holds, each once
 * @throws OctetError DATASET_CLASSES naming a class that the list lacks or holds twice
 */
export function orderClasses(
  found: readonly string[],
  order: ClassOrder | undefined,
  assumptions: string[],
  file: string,
  sort: (names: string[]) => string[] = (names) => names.sort(byName),
): string[] {
  const known = new Set(order?.names);
  const ordered = order && (order.from !== 'model' || found.some((name) => known.has(name))) ? order : undefined;
  if (!ordered) {
    const names = sort([...found]);
    const aside = order ? ` The model names other classes (${listed(order.names)}), and none of these is among them.` : '';
    assumptions.push(`The classes are numbered in the order of their names: ${numbered(names)}.${aside}`);
    return names;
  }
  const unknown = found.find((name) => !known.has(name));
  if (unknown !== undefined) throw unknownClass(unknown, ordered, file);
  const repeated = new Set(ordered.names.filter((name, i) => ordered.names.indexOf(name) !== i));
  const twice = found.find((name) => repeated.has(name));
  if (twice !== undefined) {
    throw new OctetError('DATASET_CLASSES', `The class "${twice}" stands twice in ${sources[ordered.from]}; its number is not clear.`, {
      file,
    });
  }
  assumptions.push(`The classes are numbered as in ${sources[ordered.from]}: ${numbered(ordered.names)}.`);
  return [...ordered.names];
}

/**
 * Give class labels that are numbers their names. Where all names are whole numbers themselves (`["1", "2", "3"]`), labels are looked up
 * among them; else a label is the place of its name.
 * @throws OctetError DATASET_CLASSES for a label that has no name
 */
export function nameLabels(targets: Targets, order: ClassOrder | undefined, assumptions: string[], file: string): Targets {
  if (!order || order.from === 'trainingNumbers' || targets.task !== 'classification' || targets.names) return targets;
  const { labels, classes } = targets;
  const numbers = order.names.map((name) => (/^\d{1,9}$/.test(name) ? Number(name) : Number.NaN));
  if (numbers.every(Number.isInteger)) {
    const places = new Map(numbers.map((number, i) => [number, i]));
    const unknown = labels.find((label) => !places.has(label));
    if (unknown === undefined) {
      if (numbers.some((number, i) => number !== i))
        assumptions.push(`Labels are looked up in ${sources[order.from]}: ${numbered(order.names)}.`);
      return classTargets(
        labels.map((label) => places.get(label) as number),
        numbers.length,
        [...order.names],
      );
    }
    if (order.from === 'model') return targets;
    throw unknownClass(String(unknown), order, file);
  }
  if (classes > order.names.length) {
    if (order.from === 'model') return targets;
    throw new OctetError(
      'DATASET_CLASSES',
      `"${file}" holds the label ${classes - 1}; ${sources[order.from]} has the ${order.names.length} names 0 to ${order.names.length - 1}.`,
      { file },
      { hint: 'Name every class. For labels that start at 1, say {"labelOffset": 1} in the config of the dataset.' },
    );
  }
  assumptions.push(`Labels are places in the list of ${sources[order.from]}: ${numbered(order.names)}.`);
  return classTargets(labels, order.names.length, [...order.names]);
}

function unknownClass(name: string, order: ClassOrder, file: string): OctetError {
  const shown = listed(order.names);
  return new OctetError(
    'DATASET_CLASSES',
    `"${file}" holds the class "${name.slice(0, 80)}", which is not in ${sources[order.from]} (${shown}).`,
    { file },
    {
      hint:
        order.from === 'training' || order.from === 'trainingNumbers'
          ? 'Evaluation data may lack a class of the training data, but have no other. Correct the name, or take its samples out.'
          : 'List every class in {"classes": […]} in the config of the dataset, in the order of the outputs of the model.',
    },
  );
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, shownNames).map((name) => `"${name.slice(0, 40)}"`);
  return shown.join(', ') + (names.length > shownNames ? ` and ${names.length - shownNames} more` : '');
}

/** 0 "ant", 1 "bee" and so on, so that a reader can compare with the model. */
function numbered(names: readonly string[]): string {
  const shown = names.slice(0, shownNames).map((name, i) => `${i} "${name.slice(0, 40)}"`);
  return shown.join(', ') + (names.length > shownNames ? ` and ${names.length - shownNames} more` : '');
}

/** More texts than this are not classes. */
export function tooManyNames(file: string): OctetError {
  return new OctetError('DATASET_LABELS', `The labels of "${file}" are texts with more than ${mostClassNames} different values.`, { file });
}

/** Gathers labels that are texts, one for each sample; they become numbers when all names are known. */
export class TextLabels {
  private readonly names = new Map<string, number>();
  private readonly ids = new IntList();

  constructor(private readonly file: string) {}

  /** @throws OctetError DATASET_LABELS beyond 65,536 names */
  add(name: string): void {
    let id = this.names.get(name);
    if (id === undefined) {
      id = this.names.size;
      if (id >= mostClassNames)
        throw new OctetError(
          'DATASET_LABELS',
          `The labels of "${this.file}" are texts with more than ${mostClassNames} different values.`,
          {
            file: this.file,
          },
        );
      this.names.set(name, id);
    }
    this.ids.push(id);
  }

  /** Whether another name fits. */
  get full(): boolean {
    return this.names.size >= mostClassNames;
  }

  /** Class labels; texts that are whole numbers are labels without names, to be named as labels that are numbers are. */
  finish(order: ClassOrder | undefined, assumptions: string[]): Targets {
    const found = [...this.names.keys()];
    if (found.every((name) => /^\d{1,5}$/.test(name) && Number(name) < mostClassNames)) return this.numbers(found.map(Number));
    const names = orderClasses(found, order, assumptions, this.file);
    const places = new Map(names.map((name, i) => [name, i]));
    const numberOf = found.map((name) => places.get(name) as number);
    return classTargets(
      this.ids.toArray().map((id) => numberOf[id] as number),
      names.length,
      names,
    );
  }

  /** Texts that are whole numbers are the numbers of the classes. */
  private numbers(values: readonly number[]): Targets {
    const labels = this.ids.toArray().map((id) => values[id] as number);
    return classTargets(labels, values.reduce((most, value) => Math.max(most, value), -1) + 1);
  }
}

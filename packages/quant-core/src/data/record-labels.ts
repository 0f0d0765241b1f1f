import { join } from 'node:path';
import { OctetError } from '../errors.js';
import { TextLabels } from './class-names.js';
import type { Upload } from './materialise.js';
import { type Layout, layoutOf, numberOf, type Where, writeField } from './record-fields.js';
import { TargetCollector, type Targets } from './targets.js';

/** Takes the labels of records one by one: texts, numbers or lists of numbers, as the first is. */
export class RecordLabels {
  private texts: TextLabels | undefined;
  private numbers: TargetCollector | undefined;
  private layout: Layout | undefined;
  private row = new Float64Array(0);

  constructor(
    private readonly upload: Upload,
    private readonly field: string,
  ) {}

  async add(value: unknown, where: Where): Promise<void> {
    const label = value instanceof Uint8Array ? textOf(value, this.field, where) : value;
    if (label === null || label === undefined || label === '')
      throw new OctetError('DATASET_LABELS', `Sample ${where.sample} has no label in field "${this.field}".`, { ...where });
    this.layout ??= await this.start(label);
    if (this.texts) {
      if (typeof label !== 'string') throw this.mixed(where);
      this.texts.add(label);
      return;
    }
    if (typeof label === 'string') throw this.mixed(where);
    writeField(label, this.layout, this.row, 0, where);
    await this.numbers?.add(this.row);
  }

  /** @param names of classes whose labels are numbers, where the dataset has them */
  async finish(assumptions: string[], names?: readonly string[]): Promise<Targets | undefined> {
    if (this.texts) return this.texts.finish(this.upload.classes, assumptions);
    const targets = await this.numbers?.finish();
    if (!names || targets?.task !== 'classification') return targets;
    const texts = new TextLabels(this.upload.name);
    for (const label of targets.labels) {
      const name = names[label];
      if (name === undefined) return targets;
      texts.add(name);
    }
    return texts.finish(this.upload.classes ?? { names, from: 'dataset' }, assumptions);
  }

  async abandon(): Promise<void> {
    await this.numbers?.abandon();
  }

  private async start(label: unknown): Promise<Layout> {
    const { upload, field } = this;
    const { task } = upload.config;
    const layout = layoutOf(field, label);
    if (typeof label === 'string') {
      if (task === 'regression')
        throw new OctetError(
          'DATASET_LABELS',
          `The label of sample 0 in field "${field}" is "${label.slice(0, 40)}", which is not a number.`,
          { sample: 0 },
        );
      this.texts = new TextLabels(upload.name);
      return layout;
    }
    numberOf(typeof label === 'object' ? 0 : label, layout, { sample: 0, file: upload.name });
    this.row = new Float64Array(layout.size);
    this.numbers = await TargetCollector.create({
      name: field,
      integer: typeof label === 'bigint',
      shape: layout.shape,
      task,
      path: join(upload.directory, 'y.bin'),
      maxBytes: upload.limits.archiveBytes,
    });
    return layout;
  }

  private mixed(where: Where): OctetError {
    return new OctetError(
      'DATASET_LABELS',
      `The field "${this.field}" of sample ${where.sample} does not hold ${this.texts ? 'a text' : 'a number'}, as that of the first sample does.`,
      {
        ...where,
      },
    );
  }
}

function textOf(bytes: Uint8Array, field: string, where: Where): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new OctetError(
      'DATASET_LABELS',
      `The label of sample ${where.sample} in field "${field}" is neither a number nor a text in UTF-8.`,
      { ...where },
      { cause },
    );
  }
}

import { readFile } from 'node:fs/promises';
import { ConfigError, type DatasetConfig, type JobSettings, parseDatasetConfig, parseJobSettings } from '@octet/contracts';
import { CliError } from './errors.js';

/** Flags that set fields of a recipe, as commander hands them over. */
export interface RecipeFlags {
  config?: string;
  method?: string;
  target?: string;
  epochs?: number;
  batchSize?: number;
  learningRate?: number | 'auto';
  optimizer?: string;
  bits?: { weights: number; activations?: number };
  perTensor?: boolean;
  perChannel?: boolean;
  observer?: string;
  calibrationSamples?: number;
  skip?: string[];
  placement?: string;
  metric?: string;
  expectFloat?: number;
  maxDrop?: number;
  seed?: number;
  threads?: number;
  set?: [string, unknown][];
  dataConfig?: string;
  evalConfig?: string;
  classes?: string[];
}

/** What a job is asked to do, and how its datasets are read. */
export interface JobPlan {
  settings: JobSettings;
  datasetConfig: DatasetConfig;
  evaluationConfig: DatasetConfig;
}

type Json = Record<string, unknown>;

/** Flag → JSON pointer of the field it sets; the order is that of the help. */
const fields: { flag: string; pointer: string; value: (flags: RecipeFlags) => unknown }[] = [
  { flag: '--method', pointer: '/method', value: (flags) => flags.method },
  { flag: '--target', pointer: '/target', value: (flags) => flags.target },
  { flag: '--epochs', pointer: '/training/epochs', value: (flags) => flags.epochs },
  { flag: '--batch-size', pointer: '/training/batchSize', value: (flags) => flags.batchSize },
  { flag: '--learning-rate', pointer: '/training/learningRate', value: (flags) => flags.learningRate },
  { flag: '--optimizer', pointer: '/training/optimizer', value: (flags) => flags.optimizer },
  { flag: '--bits', pointer: '/quantization/weights/bits', value: (flags) => flags.bits?.weights },
  { flag: '--bits', pointer: '/quantization/activations/bits', value: (flags) => flags.bits?.activations },
  { flag: '--per-tensor', pointer: '/quantization/weights/perChannel', value: (flags) => (flags.perTensor ? false : undefined) },
  { flag: '--per-channel', pointer: '/quantization/weights/perChannel', value: (flags) => (flags.perChannel ? true : undefined) },
  { flag: '--observer', pointer: '/calibration/observer', value: (flags) => flags.observer },
  { flag: '--calibration-samples', pointer: '/calibration/samples', value: (flags) => flags.calibrationSamples },
  { flag: '--placement', pointer: '/quantization/placement', value: (flags) => flags.placement },
  { flag: '--metric', pointer: '/evaluation/metric', value: (flags) => flags.metric },
  { flag: '--expect-float', pointer: '/evaluation/expectedFloat', value: (flags) => flags.expectFloat },
  { flag: '--max-drop', pointer: '/gate/maxDrop', value: (flags) => flags.maxDrop },
  { flag: '--seed', pointer: '/seed', value: (flags) => flags.seed },
  { flag: '--threads', pointer: '/threads', value: (flags) => flags.threads },
];

/**
 * The plan of a job: the configuration file (the same that `config` of a one-shot request takes), with the flags laid over it.
 * @throws CliError CONFIG_UNREADABLE; ConfigError CONFIG_INVALID, DATASET_CONFIG naming every wrong field and the flag it came from
 */
export async function planJob(flags: RecipeFlags): Promise<JobPlan> {
  const { datasetConfig, evaluationDatasetConfig, ...settings } =
    flags.config === undefined ? {} : await readJson(flags.config, '--config');
  const from = new Map<string, string>();
  const lay = (flag: string, pointer: string, value: unknown) => {
    if (value === undefined) return;
    setAt(settings, pointer, value);
    from.set(pointer, flag);
  };
  for (const { flag, pointer, value } of fields) lay(flag, pointer, value(flags));
  for (const [path, value] of flags.set ?? []) lay('--set', `/${path.replaceAll('.', '/')}`, value);
  for (const name of flags.skip ?? []) appendAt(settings, '/quantization/layers', { name, skip: true });

  const reading = flags.dataConfig === undefined ? datasetConfig : await readJson(flags.dataConfig, '--data-config');
  const evaluationReading = flags.evalConfig === undefined ? evaluationDatasetConfig : await readJson(flags.evalConfig, '--eval-config');
  const { classes } = flags;
  const parse = (json: unknown) => parseDatasetConfig(classes !== undefined && isObject(json) ? { ...json, classes } : json);
  const config = within('/datasetConfig', () => parse(reading ?? {}));
  return {
    settings: naming(from, () => parseJobSettings(settings)),
    datasetConfig: config,
    evaluationConfig: evaluationReading === undefined ? config : within('/evaluationDatasetConfig', () => parse(evaluationReading)),
  };
}

/** A JSON object written on the command line, or in the file named there. */
async function readJson(source: string, flag: string): Promise<Json> {
  const inline = source.trimStart().startsWith('{');
  let text = source;
  if (!inline) {
    text = await readFile(source, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new CliError('FILE_UNREADABLE', `${flag} ${source}: ${error.message}`, { place: { file: source }, cause: error });
    });
  }
  const place = inline ? {} : { place: { file: source } };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CliError('CONFIG_UNREADABLE', `${flag}: ${error instanceof Error ? error.message : String(error)}`, {
      ...place,
      cause: error,
    });
  }
  if (!isObject(value))
    throw new CliError('CONFIG_UNREADABLE', `${flag}: a JSON object is wanted, such as {"training": {"epochs": 2}}`, place);
  return value;
}

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Sets a field, making the objects on the way; what stands in the way and is not an object is left for validation to name. */
function setAt(target: Json, pointer: string, value: unknown): void {
  const keys = pointer.slice(1).split('/');
  const last = keys.pop() ?? '';
  let at = target;
  for (const key of keys) {
    const next = (Object.hasOwn(at, key) ? at[key] : undefined) ?? {};
    if (!isObject(next)) return;
    define(at, key, next);
    at = next;
  }
  define(at, last, value);
}

/** As an own property, whatever its name: "__proto__" too is only an unknown field. */
function define(target: Json, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
}

function appendAt(settings: Json, pointer: string, entry: unknown): void {
  const quantization = isObject(settings.quantization) ? settings.quantization : {};
  const layers = Array.isArray(quantization.layers) ? quantization.layers : [];
  setAt(settings, pointer, [...layers, entry]);
}

/** Tells for each wrong field which flag it came from. */
function naming<T>(from: ReadonlyMap<string, string>, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(
      error.code,
      error.errors.map((one) => {
        const flag = from.get(one.pointer);
        return flag === undefined ? one : { ...one, detail: `${one.detail} (given by ${flag})` };
      }),
    );
  }
}

/** Lets the pointers of errors start at the field that was parsed. */
function within<T>(pointer: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(
      error.code,
      error.errors.map((one) => ({ ...one, pointer: pointer + one.pointer })),
    );
  }
}

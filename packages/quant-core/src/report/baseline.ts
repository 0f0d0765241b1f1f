import { causes } from '../evaluate/readings.js';
import type { DatasetConfig } from '../recipe.js';
import { count, metricText } from './format.js';
import type { Report } from './schema.js';

type Baseline = NonNullable<Report['baseline']>;
type Tried = Baseline['tried'][number];

/** Longer lists of numbers are not written out in sentences. */
const mostNumbers = 8;

/** What the verdict says against a float model that is poor for its kind: above all that its samples are read wrongly. */
export function floatProblem({ baseline, metric }: Pick<Report, 'baseline' | 'metric'>): {
  severity: 'inspect' | 'do_not_ship';
  text: string;
  nextStep: string;
} | null {
  if (!baseline?.poor) return null;
  const better = baseline.tried.find(({ name }) => name === baseline.better);
  if (!better) {
    return {
      severity: 'inspect',
      text: `The float model itself ${baseline.poor}.`,
      nextStep:
        'Check labels and preprocessing of the dataset (layout, scale, mean, std, order of the channels and classes): they must be those the model was trained with.',
    };
  }
  return {
    severity: 'do_not_ship',
    text: `The samples are probably not read as the model was trained: the float model ${baseline.poor}, and on ${count(baseline.samples)} samples it reaches ${metricText(better.value, metric.unit)} with ${better.name}. All figures of this report are those of wrong inputs.`,
    nextStep: readingAdvice(better),
  };
}

/** What to set or do to have samples read as in a trial. */
export function readingAdvice({ config, cause, name }: Pick<Tried, 'config' | 'cause' | 'name'>): string {
  const set = config ? `Set ${configText(config)} in the config of the dataset` : '';
  const send = 'end the images with their channels in reverse order (RGB and BGR exchanged).';
  if (cause === causes.channels) return set ? `${set}, and s${send}` : `S${send}`;
  return set ? `${set}.` : `Send the samples so: ${name}.`;
}

/** A config as JSON, long lists named by their length. */
export function configText(config: DatasetConfig): string {
  const fields = Object.entries(config).map(
    ([key, value]) =>
      `"${key}": ${Array.isArray(value) && value.length > mostNumbers ? `[${value.length} numbers]` : JSON.stringify(value)}`,
  );
  return `{${fields.join(', ')}}`;
}

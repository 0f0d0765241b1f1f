import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { TSchema } from 'typebox';
import Type from 'typebox';
import { describeSchema, JobLimitsSchema, MetadataSchema } from '../packages/contracts/src/index.js';
import { gradientRules } from '../packages/quant-core/src/autodiff/rules.js';
import { targets } from '../packages/quant-core/src/choices.js';
import { kernels } from '../packages/quant-core/src/engine/tfjs/kernels/table.js';
import { layerChoice } from '../packages/quant-core/src/fakequant/presets.js';
import { newestOpset, oldestOpset } from '../packages/quant-core/src/formats/onnx/read.js';
import { type OpType, ops, spec } from '../packages/quant-core/src/ir/ops.js';
import { DatasetConfigSchema, defaultRecipe, RecipeSchema } from '../packages/quant-core/src/recipe.js';

/**
 * Writes the pages that follow from the code: docs/ops.md, docs/configuration.md and the list of operators in README.md.
 * `npx tsx scripts/reference.ts`; tests/reference.test.ts compares them with the code.
 */

const root = new URL('../', import.meta.url);
const written = 'Written out of the code by `npx tsx scripts/reference.ts`; a test compares the two.';

/** Ops that are not for models: nodes Octet writes itself, or stands in for what it does not know. */
const inner: readonly OpType[] = ['Opaque', 'FusedMatMul', 'QuantizeLinear', 'DequantizeLinear'];
const listed = (Object.keys(ops) as OpType[]).filter((op) => !inner.includes(op));
const trained = (op: OpType) => gradientRules[op] !== null;

/** How an op counts when a model is made int8. */
function quantization(op: OpType): string {
  const facts = spec(op);
  if (facts.floatReason) return `float: ${facts.floatReason}`;
  if (facts.weight !== undefined) return 'int8 weights and activations';
  if (facts.absorbedByRequantization) return 'int8, part of the layer before it';
  if (facts.quantizedBinary || facts.quantizedUnary) return 'int8 activations';
  if (op === 'Resize') return 'int8 where it takes the nearest element, else float at the scale of its input';
  if (facts.sharesInputScale) return 'int8, moves elements as they are';
  if (op === 'BatchNormalization') return 'folded into the layer before it';
  return op === 'Dropout' || op === 'Identity' ? 'dropped' : 'float';
}

/** docs/ops.md */
export function opsPage(): string {
  const rows = listed.map((op) => `| ${op} | ${trained(op) ? 'yes' : 'no'} | ${quantization(op)} |`);
  return `${[
    '# Operators',
    written,
    `Models of opset ${oldestOpset} to ${newestOpset} are read. Every operator below has its shapes inferred and runs in ONNX Runtime; those that are trained through have a gradient, ` +
      'so that layers before them can learn. Shape arithmetic (Shape, Gather, Concat, Slice and others on sizes) is folded away, BatchNormalization is folded into the layer before it, ' +
      'and Dropout is dropped.',
    'Older forms are brought to those of opset 18 when a model is read. What the optimizer of ONNX Runtime writes (FusedConv, FusedGemm, FusedMatMul, Gelu, BiasGelu, FastGelu, QuickGelu, ' +
      'SkipLayerNormalization, SimplifiedLayerNormalization, Attention without a mask) is expanded, and an If that a known size decides becomes the branch that is taken. Functions of the model (ModelProto.functions) are written out, at any depth.',
    'An operator that is not in the list, Loop and Scan among them, stays as it is, in float. Types and shapes after it come from the file, or from ONNX Runtime where the file is silent, so that layers after it become int8 and are trained. Nothing is trained through it, or through one marked "no": layers whose only way to the loss leads there keep their weights. A model in which nothing can be quantized, or whose loss no quantized layer can reach, is refused with the node named. What ONNX says of each operator is checked in [conformance.md](conformance.md).',
    `The second engine, TF.js, executes all of them but ${listed.filter((op) => !kernels[op]).join(', ')}, and none that is not in the list.`,
    ['| operator | trained through | in the int8 model |', '| --- | --- | --- |', ...rows].join('\n'),
  ].join('\n\n')}\n`;
}

const begin = '<!-- operators: begin -->';
const end = '<!-- operators: end -->';

/** The README with its list of operators as the code has it. */
export function withOperators(readme: string): string {
  const [before, rest] = readme.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`README.md has no lines ${begin} and ${end}`);
  const list = (title: string, chosen: OpType[]) => `**${title}**: ${chosen.join(', ')}.`;
  const section = [
    `ONNX opset ${oldestOpset} to ${newestOpset}; details in [docs/ops.md](docs/ops.md).`,
    list(
      'Quantized and trained through',
      listed.filter((op) => trained(op) && !quantization(op).startsWith('float')),
    ),
    list(
      'Float, trained through',
      listed.filter((op) => trained(op) && quantization(op).startsWith('float')),
    ),
    list(
      'Float, not trained through',
      listed.filter((op) => !trained(op)),
    ),
    'Any other operator that ONNX Runtime executes stays float.',
  ].join('\n\n');
  return `${before}${begin}\n${section}\n${end}${after}`;
}

interface Field {
  path: string;
  schema: TSchema;
}

/** The fields of a schema, those of inner objects after a dot. */
function fields(schema: TSchema, prefix = ''): Field[] {
  if (!Type.IsObject(schema)) return [];
  return Object.entries(schema.properties).flatMap(([name, property]) => {
    const path = `${prefix}${name}`;
    if (Type.IsObject(property)) return fields(property, `${path}.`);
    if (Type.IsArray(property) && Type.IsObject(property.items))
      return [{ path, schema: property }, ...fields(property.items, `${path}[].`)];
    return [{ path, schema: property }];
  });
}

function row({ path, schema }: Field): string {
  const facts = schema as { default?: unknown; description?: string };
  const value = facts.default === undefined ? '' : `\`${JSON.stringify(facts.default)}\``;
  const may = Type.IsArray(schema) && Type.IsObject(schema.items) ? 'a list of objects' : describeSchema(schema);
  return `| \`${path}\` | ${may.replaceAll('|', '\\|')} | ${value} | ${facts.description ?? ''} |`;
}

const table = (schema: TSchema) => ['| field | may be | default | |', '| --- | --- | --- | --- |', ...fields(schema).map(row)].join('\n');

const example = `\`\`\`json
{
  "method": "qat",
  "target": "onnxruntime",
  "quantization": { "layers": [{ "name": "/head/*", "skip": true }] },
  "training": { "epochs": 5, "learningRate": 0.001, "distillation": { "weight": 0.5 } },
  "gate": { "maxDrop": 0.5 },
  "seed": 7
}
\`\`\``;

const engines = `| \`engine\` | calibration and training run in |
| --- | --- |
| \`ort\` | ONNX Runtime |
| \`tfjs\` | TF.js: \`@tensorflow/tfjs-node\` where it is installed, else WebAssembly, else plain JavaScript. Slower; finished models are measured in ONNX Runtime all the same |
| \`auto\` | what the environment variable \`OCTET_ENGINE\` (one of these three) says on the machine that runs the job; else ONNX Runtime, and TF.js with a warning in the report where onnxruntime-node has no binary |

\`provenance.versions\` in the report names what computed. Without ONNX Runtime the int8 model is simulated in float32, and the warning \`NOT_RUN_ON_INTEGERS\` says what that means. Why so: [decision 10](decisions/0010-second-engine.md).`;

/** What each preset means for a layer that nothing else is said of. */
function presetTable(): string {
  const rows = targets.map((target) => {
    const { weights, activations } = layerChoice({ ...defaultRecipe(), target }, 'layer', 'Conv');
    const kind = (grid: { symmetric: boolean }) => (grid.symmetric ? 'symmetric' : 'asymmetric');
    return `| \`${target}\` | ${weights.qmin}…${weights.qmax}, ${kind(weights)}, one scale ${weights.perChannel ? 'a channel' : 'a tensor'} | ${activations.qmin}…${activations.qmax}, ${kind(activations)}, one scale a tensor |`;
  });
  return ['| target | weights | activations |', '| --- | --- | --- |', ...rows].join('\n');
}

/** docs/configuration.md */
export function configurationPage(): string {
  return `${[
    '# Configuration of a job',
    written,
    'The same JSON goes into the body of `POST /v1/jobs`, into the `config` part of a one-shot request, and into the file that `octet quantize --config` reads. Everything may be left out. A field that is unknown, or has a value beyond its range, is refused with `CONFIG_INVALID` and named.',
    example,
    'What is not set in `quantization` comes from the preset of `target`. Entries of `quantization.layers` are laid over it for the layers that match; later ones win. The result of a job depends on nothing but the model, the data and these fields, and not on `threads`.',
    '## Recipe',
    table(RecipeSchema),
    '## Engine',
    engines,
    '## Presets',
    presetTable(),
    '## Limits and metadata',
    'For jobs of a service.',
    table(Type.Object({ limits: JobLimitsSchema, metadata: MetadataSchema })),
    '## Datasets',
    "How the bytes of a dataset become inputs of the model: `x' = ((x + offset) · scale − mean) / std`. It goes into the upload of the dataset, or as `datasetConfig` (and `evaluationDatasetConfig`, else the same) beside the fields above in a one-shot request and with `--config`. The formats are described in [datasets.md](datasets.md).",
    table(DatasetConfigSchema),
  ].join('\n\n')}\n`;
}

/** Every page with the file it is kept in. */
export async function pages(): Promise<{ file: string; text: string }[]> {
  const readme = await readFile(new URL('README.md', root), 'utf8');
  return [
    { file: 'README.md', text: withOperators(readme) },
    { file: 'docs/ops.md', text: opsPage() },
    { file: 'docs/configuration.md', text: configurationPage() },
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { file, text } of await pages()) await writeFile(new URL(file, root), text);
}

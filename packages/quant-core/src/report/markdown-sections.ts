import { overridesOf } from '../fakequant/placement.js';
import { bytes, count, decibels, figure, fixed, milliseconds, percent, plural, signed } from './format.js';
import type { FlippedSample, LayerReport, Report } from './schema.js';
import { type Column, code, cut, inline, table } from './table.js';

const right = (head: string): Column => ({ head, right: true });

/** Matrices are drawn whole up to this many classes. */
const mostDrawn = 12;

export function classSection({ classes, confusion, task }: Report): string {
  const title = '## 3. Classes';
  if (!classes || classes.length === 0) return `${title}\n\nThere are no class labels.`;
  const names = new Map(classes.map(({ label, name }) => [label, name]));
  const shown = cut(classes, 20, 'classes');
  const rows = shown.rows.map((row) => [
    classText(row.label, row.name),
    count(row.samples),
    percent(row.float),
    percent(row.int8),
    signed(row.changePoints),
  ]);
  const parts = [
    title,
    `Worst change first.${task === 'dense_classification' ? ' Counted are positions: pixels, or tokens.' : ''}`,
    table(
      ['class', right(task === 'dense_classification' ? 'positions' : 'samples'), right('float'), right('int8'), right('points')],
      rows,
    ),
    ...shown.note,
  ];
  if (confusion) parts.push(confusionText(confusion, names));
  return parts.join('\n\n');
}

const classText = (label: number, name: string | undefined) => (name === undefined ? String(label) : `${label} ${inline(name)}`);

function confusionText({ float, int8 }: NonNullable<Report['confusion']>, names: ReadonlyMap<number, string | undefined>): string {
  const moved = float.flatMap((row, truth) => row.map((before, named) => ({ truth, named, before, after: int8[truth]![named]! })));
  const changed = moved
    .filter(({ before, after }) => before !== after)
    .sort((a, b) => Math.abs(b.after - b.before) - Math.abs(a.after - a.before));
  if (changed.length === 0) return '**Confusion**: float and int8 confuse the same classes equally often.';
  const shown = cut(changed, 15, 'cells that changed');
  const rows = shown.rows.map(({ truth, named, before, after }) => [
    classText(truth, names.get(truth)),
    classText(named, names.get(named)),
    count(before),
    count(after),
    signed(after - before, 0),
  ]);
  const parts = [
    '**Confusion**: the cells that changed most.',
    table(['truth', 'named', right('float'), right('int8'), right('change')], rows),
    ...shown.note,
  ];
  if (float.length <= mostDrawn) {
    parts.push(
      'Float (row: truth, column: named):',
      matrix(float),
      'int8:',
      matrix(int8),
      'int8 − float:',
      matrix(
        int8.map((row, t) => row.map((n, c) => n - float[t]![c]!)),
        true,
      ),
    );
  }
  return parts.join('\n\n');
}

function matrix(cells: readonly (readonly number[])[], withSign = false): string {
  const columns: Column[] = ['', ...cells.map((_, label) => right(String(label)))];
  return table(
    columns,
    cells.map((row, truth) => [`**${truth}**`, ...row.map((n) => (n === 0 ? '·' : withSign ? signed(n, 0) : String(n)))]),
  );
}

export function flipSection({ flips, classes, provenance, agreement, outputs }: Report): string {
  const title = '## 4. Flipped samples';
  if (agreement === null) return `${title}\n\nThe output has no class scores, so no class can change.`;
  if (flips.length === 0 && outputs.some(({ fidelity }) => (fidelity?.positions ?? 0) > 1))
    return `${title}\n\nNo single class is named for a sample.`;
  if (flips.length === 0) return `${title}\n\nNo sample changed its class.`;
  const names = new Map((classes ?? []).map(({ label, name }) => [label, name]));
  const name = (label: number) => classText(label, names.get(label) ?? provenance.dataset.classNames?.[label]);
  const best = (list: FlippedSample['float']) => list.map(({ label, confidence }) => `${name(label)} ${percent(confidence, 0)}`).join(', ');
  const shown = cut(flips, 20, 'flipped samples');
  const rows = shown.rows.map((flip) => [
    String(flip.index),
    flip.truth === null ? '' : name(flip.truth),
    best(flip.float),
    best(flip.int8),
    fixed(flip.marginLost, 3),
    flip.truth === null ? '' : flip.float[0]?.label === flip.truth ? 'lost' : flip.int8[0]?.label === flip.truth ? 'won' : 'wrong in both',
  ]);
  return [
    title,
    `Samples whose class changed, by margin lost (how far the confidence moved from the float model's class to the int8 model's). Sample numbers count from 0 in the evaluation data.`,
    table([right('sample'), 'truth', 'float', 'int8', right('margin lost'), ''], rows),
    ...shown.note,
  ].join('\n\n');
}

const maybe = <T>(value: T | undefined, text: (value: T) => string) => (value === undefined ? '' : text(value));

/** What was done for the PTQ model, in a sentence each; nothing where nothing was. */
function preparationText({ equalizedPairs, adaptiveLayers, roundingError, correctedBiases }: Report['calibration']): string[] {
  const left = roundingError === null ? '' : ` (${percent(roundingError, 0)} of the squared error of rounding to nearest is left)`;
  const done = [
    ...(equalizedPairs > 0 ? [`the channels between ${plural(equalizedPairs, 'pair')} of layers were given other scales`] : []),
    ...(adaptiveLayers > 0 ? [`the weights of ${plural(adaptiveLayers, 'layer')} were rounded adaptively${left}`] : []),
    ...(correctedBiases > 0 ? [`${plural(correctedBiases, 'bias was', 'biases were')} corrected`] : []),
  ];
  return done.length > 0 ? [`For the PTQ model ${done.join('; ')}.`] : [];
}

/** What the file holds weights of 4 bits or less in, and what the runtime makes of them. */
function storageText(layers: readonly LayerReport[]): string[] {
  const narrow = layers.filter(({ weightBits }) => weightBits !== undefined && weightBits <= 4);
  const packed = narrow.filter(({ weightStorage }) => weightStorage === 'int4').length;
  const wide = narrow.length - packed;
  return [
    ...(packed > 0
      ? [
          `The file holds the weights of ${plural(packed, 'layer')} as int4, two to a byte. The runtime makes int8 of them when it loads the file and computes with int8: they take less room there, and are as fast.`,
        ]
      : []),
    ...(wide > 0
      ? [
          `The weights of ${plural(wide, 'layer')} have 4 bits or less and take a byte each in the file; \`weights.storage: "int4"\` packs two of them into one.`,
        ]
      : []),
  ];
}

export function layerSection({ layers, calibration }: Report): string {
  const title = '## 5. Layers';
  const int8 = layers.filter(({ precision }) => precision === 'int8');
  const float = layers.filter(({ precision }) => precision === 'float');
  const worstFirst = [...int8].sort(
    (a, b) => (a.sqnrAccumulatedDb ?? Number.POSITIVE_INFINITY) - (b.sqnrAccumulatedDb ?? Number.POSITIVE_INFINITY),
  );
  const shown = cut(worstFirst, 25, 'layers');
  const rows = shown.rows.map((layer) => [
    code(layer.name),
    layer.op,
    bitsText(layer),
    maybe(layer.sqnrAccumulatedDb, decibels),
    maybe(layer.sqnrLocalDb, decibels),
    maybe(layer.rmseOverScale, (value) => fixed(value, 3)),
    maybe(layer.clipped, (value) => percent(value, 3)),
    maybe(layer.range, ([low, high]) => `${figure(low)} … ${figure(high)}`),
    maybe(layer.scale, (value) => value.toPrecision(4)),
    maybe(layer.zeroPoint, String),
    maybe(layer.channelSpread, (value) => fixed(value, 1)),
  ]);
  const columns: Column[] = [
    'layer',
    'op',
    'bits',
    right('SQNR'),
    right('alone'),
    right('RMSE/scale'),
    right('clipped'),
    'range',
    right('scale'),
    right('zero'),
    right('spread'),
  ];
  const floatShown = cut(float, 25, 'nodes');
  return [
    title,
    `${plural(int8.length, 'layer')} int8, ${plural(float.length, 'node')} float. Worst first. SQNR: signal to quantization noise with everything quantized, and with the layer alone; RMSE/scale is 0.289 for ideal rounding, less where many values are exactly 0, and more where values are clipped; spread: largest over smallest channel scale of the weights.`,
    ...preparationText(calibration),
    ...storageText(int8),
    ...(int8.length > 0 ? [table(columns, rows)] : []),
    ...shown.note,
    ...(float.length > 0
      ? [
          'Nodes that stay float:',
          table(
            ['node', 'op', 'why'],
            floatShown.rows.map((layer) => [code(layer.name), layer.op, inline(layer.reason ?? '')]),
          ),
          ...floatShown.note,
        ]
      : []),
  ].join('\n\n');
}

const bitsText = ({ weightBits, activationBits, perChannel }: LayerReport) =>
  [
    weightBits === undefined ? '' : `W${weightBits}`,
    activationBits === undefined ? '' : `A${activationBits}`,
    perChannel === undefined ? '' : perChannel ? ' per channel' : ' per tensor',
  ].join('');

export function trainingSection({ training }: Report): string {
  const title = '## 6. Training';
  // Of values only the loss is told, of which the metric of an epoch is the negative.
  const metric = training?.epochs[0]?.metricName;
  if (!training) return `${title}\n\nNothing was trained (method "ptq").`;
  const shown = cut(training.epochs, 30, 'epochs');
  const rows = shown.rows.map((epoch) => [
    epoch.best ? `**${epoch.epoch}**` : String(epoch.epoch),
    figure(epoch.loss),
    figure(epoch.holdoutLoss),
    ...(metric ? [percent(epoch.holdoutMetric)] : []),
    epoch.learningRate.toPrecision(3),
    `${fixed(epoch.seconds, 1)} s`,
    epoch.best ? 'best' : '',
  ]);
  return [
    title,
    table(
      [
        right('epoch'),
        right('loss'),
        right('held-out loss'),
        ...(metric ? [right(`held-out ${metric}`)] : []),
        right('learning rate'),
        right('time'),
        '',
      ],
      rows,
    ),
    ...shown.note,
    `Loss ${inline(training.loss)}${training.distillationShare > 0 && training.loss !== 'distillation' ? ` with ${percent(training.distillationShare, 0)} distillation from the float model` : ''}, first learning rate ${training.learningRate.toPrecision(3)}, ${plural(training.stepsPerEpoch, 'step')} an epoch at ${count(training.samplesPerSecond)} samples/s. Observers froze at step ${count(training.observersFrozenAtStep)}.${training.start === 'rounded' ? ' Training began with the weights that PTQ had rounded adaptively.' : ''}${training.learnedScales > 0 ? ` ${plural(training.learnedScales, 'scale was', 'scales were')} learned.` : ''} ${normText(training.batchNorm)} The weights of epoch ${training.bestEpoch} were kept (lowest held-out loss).`,
  ].join('\n\n');
}

function normText({ kept, frozenAtStep, reestimated, note }: NonNullable<Report['training']>['batchNorm']): string {
  if (!kept) return `Batch norm: ${inline(note)}`;
  const frozen = `their statistics froze at step ${count(frozenAtStep)}${reestimated ? ', measured anew with everything quantized' : ''}`;
  return `${plural(kept, 'batch norm was', 'batch norms were')} kept while training; ${frozen}, and they were folded into their layers at the end.`;
}

export function sizeSection({ size, layers, runtime, latency, placement }: Report): string {
  const heavy = layers.filter(({ floatBytes }) => floatBytes > 0).sort((a, b) => b.floatBytes - a.floatBytes);
  const shown = cut(heavy, 20, 'layers');
  const rows = shown.rows.map((layer) => [
    code(layer.name),
    layer.op,
    layer.precision,
    count(layer.parameters),
    bytes(layer.floatBytes),
    bytes(layer.int8Bytes),
  ]);
  const share =
    runtime.integerTimeShare === null
      ? 'The share of run time could not be measured.'
      : `${percent(runtime.integerTimeShare, 0)} of the run time is spent in integer nodes.`;
  const ops = cut(Object.entries(runtime.byOp), 20, 'operators');
  return [
    '## 8. Size and what runs as integer',
    `File: ${bytes(size.floatBytes)} → ${bytes(size.int8Bytes)}. Weights by layer, largest first:`,
    table(['layer', 'op', 'runs as', right('parameters'), right('float'), right('int8')], rows),
    ...shown.note,
    `In ${runtime.name} ${runtime.version}, ${plural(runtime.integerNodes, 'node runs', 'nodes run')} on integers, ${plural(runtime.floatNodes, 'node')} on floats, and ${plural(runtime.boundaryNodes, 'node converts', 'nodes convert')} between the two. ${share}${latency.note ? ` ${inline(latency.note)}` : ''}`,
    ...(ops.rows.length > 0
      ? [
          table(
            ['operator', right('nodes')],
            ops.rows.map(([op, n]) => [code(op), count(n)]),
          ),
          ...ops.note,
        ]
      : []),
    ...(placement ? placementText(placement) : []),
  ].join('\n\n');
}

/** What was measured where the recipe asked for placement "auto", and how to have the same model again. */
function placementText(placement: NonNullable<Report['placement']>): string[] {
  const { batches, whole, layers, bytes: size, cpu, threads, trials, note } = placement;
  const left = layers.filter((layer) => layer.left);
  const heads = batches.flatMap((batch) => [right(`float, batch ${batch}`), right('int8')]);
  const cells = (float: readonly number[], int8: readonly number[]) =>
    batches.flatMap((_, b) => [float[b], int8[b]].map((ms) => (ms === undefined ? '' : milliseconds(ms))));
  const shown = cut(left, 25, 'layers');
  return [
    `**Placement.** ${inline(note)} Measured with ${plural(threads, 'thread')} on ${inline(cpu) || 'an unknown processor'}, the machine of this job and not of your users; ${plural(trials, 'mixed model')} tried. Times differ from run to run, and with them what is chosen.`,
    table(
      ['whole model', ...batches.map((batch) => right(`batch ${batch}`)), right('file')],
      [
        ['float', ...whole.float.map(milliseconds), ''],
        ['all layers int8', ...whole.int8.map(milliseconds), bytes(size.int8)],
        ['as chosen', ...whole.mixed.map(milliseconds), bytes(size.mixed)],
      ],
    ),
    ...(left.length > 0
      ? [
          'Layers left in float, each alone, with the conversions at its ends:',
          table(
            ['layer', 'op', ...heads],
            shown.rows.map((layer) => [code(layer.name), layer.op, ...cells(layer.float, layer.int8)]),
          ),
          ...shown.note,
          `The same model to the byte, without measuring: \`quantization.placement: "all"\` with these \`quantization.layers\` after your own:\n\n\`\`\`json\n${JSON.stringify(overridesOf(placement)).replace(/`{3,}/g, '')}\n\`\`\``,
        ]
      : []),
  ];
}

/** The peak, what was expected, and the peak of each stage. */
function memoryText({ peakBytes, estimatedBytes, peakBytesByStage }: Report['provenance']['memory']): string {
  const stages = Object.entries(peakBytesByStage ?? {}).map(([stage, peak]) => `${stage} ${bytes(peak)}`);
  return [
    `${bytes(peakBytes)} at most`,
    ...(estimatedBytes === null ? [] : [`${bytes(estimatedBytes)} estimated before it began`]),
    ...(stages.length ? [`by stage: ${stages.join(', ')}`] : []),
  ].join('; ');
}

export function provenanceSection({ provenance, samples, latency, schemaVersion }: Report): string {
  const { dataset, versions, seconds } = provenance;
  const rows: string[][] = [
    ['model', code(provenance.modelSha256)],
    ['dataset', code(provenance.datasetSha256)],
    ['evaluation dataset', provenance.evaluationDatasetSha256 ? code(provenance.evaluationDatasetSha256) : 'a seeded share of the dataset'],
    ['int8 artifact', code(provenance.artifactSha256)],
    ['data', `${dataset.format}, ${plural(dataset.samples, 'sample')} of [${dataset.sampleShape.join(', ')}] ${dataset.dtype}`],
    [
      'samples',
      `${count(samples.training)} to train, ${count(samples.calibration)} to calibrate, ${count(samples.holdout)} held out, ${count(samples.evaluation)} to evaluate`,
    ],
    ['seed', String(provenance.seed)],
    [
      'versions',
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ],
    ['platform', [provenance.platform, latency.cpu, latency.cpuFeatures.join(' ')].filter((text) => text !== '').join(', ')],
    [
      'time',
      Object.entries(seconds)
        .map(([stage, time]) => `${stage} ${fixed(time, 1)} s`)
        .join(', '),
    ],
    ['memory', memoryText(provenance.memory)],
    ['report format', schemaVersion],
  ];
  return [
    '## 10. Provenance',
    table(
      ['', ''],
      rows.map(([name, value]) => [name!, name === 'versions' || name === 'platform' ? inline(value!) : value!]),
    ),
    `Run again with:\n\n\`\`\`sh\n${provenance.command.replace(/`{3,}/g, '')}\n\`\`\``,
    `Recipe and dataset config, defaults filled in:\n\n\`\`\`json\n${JSON.stringify({ recipe: provenance.recipe, datasetConfig: provenance.datasetConfig }, null, 2).replace(/`{3,}/g, '')}\n\`\`\``,
  ].join('\n\n');
}

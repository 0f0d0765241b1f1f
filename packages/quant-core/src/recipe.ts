import Type, { type Static } from 'typebox';
import Value from 'typebox/value';
import { engineWishes, lossNames, metricNames, observers, outputKinds, placements, targets, taskNames, weightStorages } from './choices.js';

/** What a caller may choose: one schema that validates, documents and gives defaults. */

const Bits = Type.Integer({ minimum: 2, maximum: 8, description: 'Width of the integers.' });

const WeightSettings = Type.Object(
  {
    bits: Type.Optional(Bits),
    perChannel: Type.Optional(Type.Boolean({ description: 'One scale for each output channel, or one for the tensor.' })),
    symmetric: Type.Optional(Type.Boolean()),
    reduceRange: Type.Optional(Type.Boolean({ description: 'Use one bit less (-64..63), so that pairs cannot saturate on x86 without VNNI.' })),
    storage: Type.Optional(Type.Enum([...weightStorages], { description: 'What the file holds weights of 4 bits or less in: a byte each, or two to a byte (int4, opset 21). int8 when left out.' })),
  },
  { additionalProperties: false, description: 'How weights are quantized.' },
);

const ActivationSettings = Type.Object(
  {
    bits: Type.Optional(Bits),
    symmetric: Type.Optional(Type.Boolean()),
    reduceRange: Type.Optional(Type.Boolean({ description: 'Use one bit less (0..127).' })),
  },
  { additionalProperties: false, description: 'How activations are quantized (per tensor).' },
);

const LayerOverride = Type.Object(
  {
    name: Type.Optional(Type.String({ minLength: 1, description: 'Glob over node names, such as "/layer1/*".' })),
    op: Type.Optional(Type.String({ minLength: 1, description: 'Operator type, such as "Conv".' })),
    skip: Type.Optional(Type.Boolean({ description: 'Leave the layers that match in float.' })),
    weights: Type.Optional(WeightSettings),
    activations: Type.Optional(ActivationSettings),
  },
  { additionalProperties: false, description: 'Settings for layers by name or operator; later entries win.' },
);

export const RecipeSchema = Type.Object(
  {
    method: Type.Union([Type.Literal('qat'), Type.Literal('ptq')], { default: 'qat', description: 'Quantization-aware training, or calibration only.' }),
    target: Type.Enum([...targets], { default: 'onnxruntime', description: 'Backend preset.' }),
    quantization: Type.Object(
      {
        weights: Type.Optional(WeightSettings),
        activations: Type.Optional(ActivationSettings),
        inputBits: Type.Integer({
          minimum: 2,
          maximum: 8,
          default: 8,
          description: 'Width of the integers of model inputs. Samples are bytes as a rule: fewer bits for activations are meant for what lies between layers.',
        }),
        layers: Type.Array(LayerOverride, { default: [], maxItems: 1000 }),
        placement: Type.Enum([...placements], {
          default: 'all',
          description:
            'Which of the layers that can be int8 become so. auto: after calibration, layers that make the model faster in float stay there; measured on the machine of the job, which need not be that of your users. Times differ from run to run, and with them the choice: the report gives the `layers` that repeat it with placement "all", to the byte.',
        }),
      },
      { additionalProperties: false, default: {} },
    ),
    calibration: Type.Object(
      {
        samples: Type.Integer({ minimum: 1, maximum: 100_000, default: 512 }),
        observer: Type.Enum([...observers], { default: 'histogram' }),
        percentile: Type.Number({ exclusiveMinimum: 50, maximum: 100, default: 99.99 }),
        batchSize: Type.Integer({ minimum: 1, maximum: 4096, default: 64 }),
        equalization: Type.Union([Type.Literal('auto'), Type.Boolean()], {
          default: 'auto',
          description:
            'PTQ only: channels between two layers are given scales that make the weights on both sides equally large (cross-layer equalization). auto: where weights have one scale for the whole tensor, or one channel of an activation dwarfs the others.',
        }),
        rounding: Type.Enum(['auto', 'nearest', 'adaptive'], {
          default: 'auto',
          description: 'PTQ only: weights are rounded to the nearest integer, or up or down as it suits the result of their layer (AdaRound). auto: adaptive for weights below 8 bits.',
        }),
        roundingIterations: Type.Integer({ minimum: 1, maximum: 100_000, default: 500, description: 'Steps of adaptive rounding for each layer.' }),
        biasCorrection: Type.Union([Type.Literal('auto'), Type.Boolean()], {
          default: 'auto',
          description: 'PTQ only: biases take back the shift of the mean that rounding causes. auto: below 8 bits, where the rounding is not adaptive.',
        }),
      },
      { additionalProperties: false, default: {} },
    ),
    training: Type.Object(
      {
        epochs: Type.Integer({ minimum: 1, maximum: 1000, default: 3 }),
        batchSize: Type.Integer({ minimum: 1, maximum: 4096, default: 64 }),
        optimizer: Type.Union([Type.Literal('sgd'), Type.Literal('adam')], { default: 'sgd' }),
        learningRate: Type.Union([Type.Literal('auto'), Type.Number({ exclusiveMinimum: 0, maximum: 10 })], { default: 'auto' }),
        momentum: Type.Number({ minimum: 0, exclusiveMaximum: 1, default: 0.9 }),
        weightDecay: Type.Number({ minimum: 0, maximum: 1, default: 0.0001 }),
        schedule: Type.Union([Type.Literal('cosine'), Type.Literal('step'), Type.Literal('constant')], { default: 'cosine' }),
        stepEpochs: Type.Integer({ minimum: 1, default: 1, description: 'For the step schedule: epochs between steps.' }),
        stepFactor: Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 0.1, description: 'For the step schedule: factor of each step.' }),
        loss: Type.Enum([...lossNames], {
          default: 'auto',
          description: 'auto: cross_entropy for class labels, binary_cross_entropy for 0/1 columns, mse for values (huber is possible too), distillation from the float model without labels.',
        }),
        distillation: Type.Object(
          {
            weight: Type.Union([Type.Literal('auto'), Type.Number({ minimum: 0, maximum: 1 })], {
              default: 'auto',
              description: 'Share of the distillation loss beside the label loss. auto: 0.5 for fewer than 10,000 training samples, on whose labels alone a network would overfit; else 0.',
            }),
            temperature: Type.Number({ exclusiveMinimum: 0, maximum: 100, default: 2 }),
          },
          { additionalProperties: false, default: {} },
        ),
        start: Type.Enum(['auto', 'float'], {
          default: 'auto',
          description: 'Weights that training begins with. auto: those that PTQ has rounded adaptively, where it has, scales are learned and no batch norm is kept; else those of the float model.',
        }),
        scales: Type.Enum(['auto', 'observed', 'learned'], {
          default: 'auto',
          description: 'Where scales come from while training: the ranges seen, or the gradient (learned step size). auto: learned below 8 bits.',
        }),
        freezeObserversAfter: Type.Number({ minimum: 0, default: 1, description: 'Epochs after which activation ranges stay as they are.' }),
        batchNorm: Type.Enum(['auto', 'fold', 'keep'], {
          default: 'auto',
          description: 'Batch norm after a layer while training: folded into the weights from the start, or kept, with statistics of its own, and folded at the end. auto: kept where weights have 2 bits, else folded.',
        }),
        freezeBatchNormAfter: Type.Number({ minimum: 0, default: 1, description: 'Epochs after which the statistics of kept batch norms stay as they are.' }),
        reestimateBatchNorm: Type.Boolean({
          default: true,
          description: 'Measure the statistics of kept batch norms anew, with weights and activations quantized, when they freeze and when an epoch ends before.',
        }),
        augment: Type.Object(
          {
            flip: Type.Boolean({ default: false, description: 'Half of the images are mirrored, left to right.' }),
            shift: Type.Integer({ minimum: 0, maximum: 1024, default: 0, description: 'Images move by up to so many pixels, across and down.' }),
            padding: Type.Enum(['zero', 'edge', 'reflect'], {
              default: 'zero',
              description: 'What fills the place that a shifted image leaves. zero: 0 after preprocessing (black, or the mean colour where the dataset has a mean); edge: the pixel at the edge; reflect: the image, mirrored at its edge.',
            }),
            brightness: Type.Number({ minimum: 0, maximum: 1, default: 0, description: 'Images become lighter or darker by up to this share of their range of values.' }),
            contrast: Type.Number({ minimum: 0, maximum: 1, default: 0, description: 'Distances from the mean of an image grow or shrink by up to this share.' }),
            mixup: Type.Number({
              minimum: 0,
              maximum: 10,
              default: 0,
              description: 'Alpha of mixup: every image is mixed with another of its batch, and their targets likewise, in a share from Beta(alpha, alpha). 0 leaves images alone; 0.2 is usual.',
            }),
          },
          { additionalProperties: false, default: {}, description: 'Random changes to images while training, drawn from the seed and the number of the step. Calibration and evaluation see the images as they are.' },
        ),
        clipGradient: Type.Optional(Type.Number({ exclusiveMinimum: 0, description: 'Largest global norm of the gradient.' })),
        holdout: Type.Number({ exclusiveMinimum: 0, maximum: 0.5, default: 0.1, description: 'Share of the training data kept back to choose the best epoch, and between PTQ and QAT.' }),
      },
      { additionalProperties: false, default: {} },
    ),
    evaluation: Type.Object(
      {
        metric: Type.Enum(['auto', ...metricNames], { default: 'auto', description: 'What the models are compared by. auto: the first metric of the task (docs/configuration.md has the table).' }),
        expectedFloat: Type.Optional(
          Type.Number({
            description:
              'What the float model reaches in this metric, as its owner knows it (a fraction: 0.93 for 93 %). Where it lies outside of the 95 % interval that is measured, the job stops before calibration and says what may be wrong.',
          }),
        ),
        split: Type.Number({ exclusiveMinimum: 0, maximum: 0.9, default: 0.2, description: 'Share of the dataset kept for evaluation when no evaluation dataset is given.' }),
        batchSize: Type.Integer({ minimum: 1, maximum: 4096, default: 64, description: 'Largest batch of an evaluation; fewer samples are run at a time where these would take too much memory.' }),
        latencyRuns: Type.Integer({
          minimum: 5,
          maximum: 1000,
          default: 50,
          description: 'Timed runs of each model at each batch size; up to four times as many until the medians are known to 3 %, fewer where time is up (a quarter of what training took, 10 s at most).',
        }),
      },
      { additionalProperties: false, default: {} },
    ),
    gate: Type.Object({ maxDrop: Type.Optional(Type.Number({ minimum: 0, description: 'Points of the metric that may be lost.' })) }, { additionalProperties: false, default: {} }),
    output: Type.Optional(Type.String({ minLength: 1, description: 'Name of the output that the labels belong to. Left out: the only one they fit.' })),
    outputs: Type.Array(
      Type.Object(
        {
          name: Type.String({ minLength: 1, description: 'Name of the output.' }),
          kind: Type.Enum([...outputKinds], { description: 'classes: scores or probabilities of which one is right; binary: scores of independent yes/no answers; values; embedding; other.' }),
          axis: Type.Optional(Type.Integer({ minimum: -16, maximum: 16, description: 'classes: which axis of the output counts the classes, the batch being axis 0; 1 when left out.' })),
        },
        { additionalProperties: false },
      ),
      { default: [], maxItems: 1000, description: 'What outputs are, where they are not found, or found wrongly.' },
    ),
    seed: Type.Integer({ minimum: 0, maximum: 4_294_967_295, default: 0 }),
    threads: Type.Integer({ minimum: 0, maximum: 256, default: 0, description: 'Threads of the job; 0 takes the cores of the machine. The result does not depend on it.' }),
    engine: Type.Enum([...engineWishes], { default: 'auto', description: 'What calibration and training run in: ONNX Runtime or TF.js. auto: what OCTET_ENGINE says on the machine, else ONNX Runtime, and TF.js where that has no binary.' }),
  },
  { additionalProperties: false },
);

/** A recipe with every default filled in. */
export type Recipe = Static<typeof RecipeSchema>;
export type EngineWish = (typeof engineWishes)[number];
export type WeightStorage = (typeof weightStorages)[number];
export type Target = (typeof targets)[number];
export type Observer = (typeof observers)[number];

const Numbers = Type.Union([Type.Number(), Type.Array(Type.Number(), { minItems: 1, maxItems: 4096 })]);

/** How a dataset's bytes become model inputs. Everything may be left out where there is only one reading. */
export const DatasetConfigSchema = Type.Object(
  {
    format: Type.Optional(Type.Enum(['npz', 'npy', 'idx', 'images', 'csv', 'jsonl', 'parquet'], { description: 'Recognised from the file when left out.' })),
    task: Type.Optional(Type.Enum([...taskNames], { description: 'What the labels are; told from the labels and the model when left out.' })),
    output: Type.Optional(Type.String({ minLength: 1, description: 'Name of the model output that the labels belong to.' })),
    ignoreIndex: Type.Optional(Type.Integer({ description: 'A label a position: positions with this label are ignored. Left out: 255 where the model has fewer classes, and negative labels.' })),
    x: Type.Optional(Type.String({ description: 'Name of the array (npz), file in the zip (idx) or field (jsonl, parquet; several with commas) that holds the samples.' })),
    y: Type.Optional(Type.String({ description: 'Name of the array or file that holds the labels.' })),
    classes: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), {
        minItems: 2,
        maxItems: 65_536,
        uniqueItems: true,
        description: 'Names of the classes in the order of the outputs of the model. Folders and labels that are texts are looked up in it; it may be longer than the names present.',
      }),
    ),
    labelOffset: Type.Optional(Type.Union([Type.Literal(0), Type.Literal(1)], { description: 'Number of the first class in the labels: 1 for labels from 1 to the number of outputs. Found from the labels and the model when left out.' })),
    layout: Type.Optional(Type.Union([Type.Literal('NCHW'), Type.Literal('NHWC')], { description: 'Layout of the stored samples.' })),
    scale: Type.Optional(Type.Number({ description: 'x is multiplied by this first; 0.00392156862745098 (1/255) brings bytes to 0..1.' })),
    offset: Type.Optional(Type.Number({ description: 'Added to x before scaling.' })),
    mean: Type.Optional(Numbers),
    std: Type.Optional(Numbers),
    size: Type.Optional(Type.Array(Type.Integer({ minimum: 1, maximum: 8192 }), { minItems: 2, maxItems: 2, description: 'Images: [height, width] to resize to; the size of the model input when left out.' })),
    channels: Type.Optional(Type.Union([Type.Literal(1), Type.Literal(3)])),
    label: Type.Optional(Type.String({ description: 'CSV: name or zero-based number of the label column; the last when left out. JSONL, Parquet: name of the field.' })),
    encoding: Type.Optional(Type.Enum(['utf-8', 'utf-16le', 'utf-16be', 'latin1'], { description: 'CSV, JSONL: encoding of the text. Left out, it is UTF-8, or UTF-16 where a byte order mark says so.' })),
    header: Type.Optional(Type.Boolean({ description: 'CSV: whether the first row names the columns.' })),
  },
  { additionalProperties: false },
);

/** Preprocessing: `x' = ((x + offset) * scale - mean) / std`, per channel where an array is given. */
export type DatasetConfig = Static<typeof DatasetConfigSchema>;

/** The recipe of a job that says nothing. */
export function defaultRecipe(): Recipe {
  return Value.Parse(RecipeSchema, Value.Default(RecipeSchema, {})) as Recipe;
}

/** Where in the user's input an error sits. Every field is optional; fill what is known. */
export interface ErrorPlace {
  /** Node name as written in the user's model. */
  node?: string;
  /** Operator type of that node. */
  op?: string;
  /** Tensor (value) name. */
  tensor?: string;
  /** Zero-based sample index in the dataset. */
  sample?: number;
  /** File or archive entry. */
  file?: string;
  /** JSON pointer into the job's configuration. */
  pointer?: string;
}

interface CatalogueEntry {
  /** Short, constant sentence. */
  title: string;
  /** HTTP status when the error is raised while a request is answered. */
  status: number;
  /** What the user can do about it, in general. */
  hint: string;
  /** Whether the same request may succeed later. */
  retryable: boolean;
}

/** Every error code quant-core can raise. `docs/errors.md` is tested against this table. */
export const errorCatalogue = {
  MODEL_NOT_ONNX: { title: 'The file is not an ONNX model', status: 422, hint: 'Send an ONNX file (ModelProto), or a zip with one .onnx file and its external data.', retryable: false },
  MODEL_TRUNCATED: { title: 'The model file is cut off or damaged', status: 422, hint: 'Export the model again and compare the size of the upload with the size of the file.', retryable: false },
  MODEL_TOO_LARGE: { title: 'The model is larger than the limit', status: 413, hint: 'Raise the limit on your own server, or send a smaller model.', retryable: false },
  MODEL_INVALID: { title: 'The model breaks a rule of ONNX', status: 422, hint: 'Check the file with onnx.checker.check_model and export it again.', retryable: false },
  MODEL_CYCLIC: { title: 'The graph has a cycle', status: 422, hint: 'An ONNX graph must be acyclic; export the model again.', retryable: false },
  MODEL_MISSING_TENSOR: { title: 'A node reads a tensor that nothing produces', status: 422, hint: 'The initializer or producing node is missing from the file; export it again with all weights.', retryable: false },
  MODEL_ARCHIVE: { title: 'The archive with the model is not acceptable', status: 422, hint: 'Send a plain .onnx file, or a zip with exactly one .onnx file and its external data, not encrypted.', retryable: false },
  MODEL_EXTERNAL_DATA: {
    title: 'External data cannot be read',
    status: 422,
    hint: 'Send the files of external data with the model: as parts "external" of the request, or in one zip with the .onnx file. The command line finds them beside the model.',
    retryable: false,
  },
  MODEL_OPSET_UNSUPPORTED: { title: 'The opset of the model is not supported', status: 422, hint: 'Export with an opset between 7 and the newest one listed in docs/ops.md.', retryable: false },
  MODEL_UNSUPPORTED_OP: { title: 'The model uses an operator that cannot be executed', status: 422, hint: 'Custom operators cannot run here. Export the model with standard ONNX operators.', retryable: false },
  MODEL_ALREADY_QUANTIZED: { title: 'The model is quantized already', status: 422, hint: 'Send the float model it was made from.', retryable: false },
  MODEL_NOTHING_TO_QUANTIZE: { title: 'Nothing in the model can be quantized', status: 422, hint: 'Octet quantizes Conv, Gemm and MatMul with constant weights; the model has none that can be int8.', retryable: false },
  MODEL_NOT_TRAINABLE: { title: 'The loss cannot be reached from any quantized layer', status: 422, hint: 'Use method "ptq", or remove the operator that has no gradient from between the layers and the output.', retryable: false },
  MODEL_INPUTS_UNSUPPORTED: { title: 'The inputs of the model do not fit', status: 422, hint: 'Inputs must be float32, integers or booleans, with the batch as first dimension, and one output at least must be float32.', retryable: false },
  MODEL_SHAPE: { title: 'A shape in the model is impossible', status: 422, hint: 'Correct the dimensions of the tensor named and export the model again.', retryable: false },
  MODEL_DTYPE: { title: 'A tensor has a type that does not fit its use', status: 422, hint: 'Correct the element type of the tensor named and export the model again.', retryable: false },
  MODEL_RUN_FAILED: { title: 'The model could not be run', status: 422, hint: 'The detail holds the message of the runtime, with the node it names.', retryable: false },
  ENGINE_UNAVAILABLE: { title: 'The engine cannot be loaded on this machine', status: 422, hint: 'Leave "engine" at "auto", or install what the detail names.', retryable: false },
  ENGINE_UNSUPPORTED_OP: { title: 'The engine has no kernel for an operator of the model', status: 422, hint: 'Run the job with "engine": "ort". docs/ops.md says which operators TF.js lacks.', retryable: false },
  ENGINE_UNSUPPORTED_TYPE: { title: 'The engine cannot hold an element type of the model', status: 422, hint: 'Run the job with "engine": "ort", or export the model in float32.', retryable: false },
  DATASET_UNREADABLE: { title: 'The dataset cannot be read', status: 422, hint: 'Send .npz/.npy, IDX (.gz, or a zip of pairs), a zip of image folders, CSV, JSONL or Parquet.', retryable: false },
  DATASET_EMPTY: { title: 'The dataset has no samples', status: 422, hint: 'Send at least two samples.', retryable: false },
  DATASET_TOO_LARGE: { title: 'The dataset is larger than a limit', status: 413, hint: 'Send fewer or smaller samples, or raise the limit on your own server.', retryable: false },
  DATASET_ARCHIVE: { title: 'The archive is not acceptable', status: 422, hint: 'Entries must be relative paths, not encrypted, and must not unpack to more than the stated ratio and size.', retryable: false },
  DATASET_NOT_FINITE: { title: 'The dataset holds NaN or infinity', status: 422, hint: 'Clean the sample named and upload the dataset again.', retryable: false },
  DATASET_LABELS: { title: 'The labels do not fit', status: 422, hint: 'Class labels are whole numbers from 0 to classes - 1, one for each sample.', retryable: false },
  DATASET_CLASSES: { title: 'The classes of the dataset do not fit', status: 422, hint: 'The model must have a score for each class, and named classes must be in the list of classes.', retryable: false },
  DATASET_SHAPE: { title: 'The samples do not have the shape of the model input', status: 422, hint: 'State layout, size and scaling in the config of the dataset, or send samples in the shape of the model input.', retryable: false },
  DATASET_INPUTS: { title: 'The dataset lacks an input of the model', status: 422, hint: 'Send an .npz with one array for each input of the model, named as the input is, or export the model without it.', retryable: false },
  DATASET_VALUES: { title: 'Values of the dataset do not fit an integer input of the model', status: 422, hint: 'Integer inputs take whole numbers that their type holds; token ids must lie within the embedding table.', retryable: false },
  DATASET_AMBIGUOUS: { title: 'The dataset can be read in more than one way', status: 422, hint: 'Say in the config of the dataset which reading is meant.', retryable: false },
  DATASET_CONFIG: { title: 'The config of the dataset is wrong', status: 422, hint: 'See docs/datasets.md for the fields of each format.', retryable: false },
  CONFIG_INVALID: { title: 'The configuration of the job is wrong', status: 422, hint: 'See docs/configuration.md for the fields, their ranges and defaults.', retryable: false },
  CONFIG_IMPOSSIBLE: { title: 'The configuration cannot be met by this model and dataset', status: 422, hint: 'Change the setting named.', retryable: false },
  FLOAT_NOT_AS_EXPECTED: {
    title: 'The float model does not have the value stated for it',
    status: 422,
    hint: 'Correct the config of the dataset (scale, mean and std, channels, layout, order of the classes), or state another evaluation.expectedFloat.',
    retryable: false,
  },
  FLOAT_READ_OTHERWISE: {
    title: 'The float model is far better when the samples are read in another way',
    status: 422,
    hint: 'Correct the config of the dataset. If it is right, state what the float model reaches as evaluation.expectedFloat.',
    retryable: false,
  },
  FLOAT_CLASS_ORDER: {
    title: 'The float model contradicts the order of the classes',
    status: 422,
    hint: 'Give the names of the classes in the order of the outputs of the model. If the labels are right, state what the float model reaches as evaluation.expectedFloat.',
    retryable: false,
  },
  TRAIN_TOO_LARGE: { title: 'Training would need more memory than the job may have', status: 422, hint: 'Set a smaller training.batchSize, or raise OCTET_JOB_MEMORY on your own server.', retryable: false },
  JOB_TOO_LARGE: { title: 'The job would need more memory than it may have', status: 422, hint: 'Use smaller samples, or raise OCTET_JOB_MEMORY on your own server.', retryable: false },
  TRAIN_DIVERGED: { title: 'The training loss is not finite', status: 422, hint: 'Lower training.learningRate (try a tenth) or set training.clipGradient.', retryable: false },
  PARITY_BROKEN: { title: 'The saved model does not compute what was simulated', status: 500, hint: 'This is a defect of Octet or of the runtime; please report it with the model.', retryable: false },
  CANCELLED: { title: 'The job was cancelled', status: 409, hint: 'Submit the job again if the result is wanted.', retryable: false },
  CHECKPOINT_MISMATCH: { title: 'The checkpoint belongs to another job', status: 422, hint: 'Start without the checkpoint.', retryable: false },
  INTERNAL: { title: 'Internal error of Octet', status: 500, hint: 'Please report it with the request id and the log of the job.', retryable: true },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof errorCatalogue;

/** An error a user can act on: a code of the catalogue, where it is, and what to do. */
export class OctetError extends Error {
  readonly code: ErrorCode;
  readonly place: ErrorPlace;
  readonly hint: string;

  constructor(code: ErrorCode, detail: string, place: ErrorPlace = {}, options: { hint?: string; cause?: unknown } = {}) {
    super(detail, { cause: options.cause });
    this.name = 'OctetError';
    this.code = code;
    this.place = place;
    this.hint = options.hint ?? errorCatalogue[code].hint;
  }

  get title(): string {
    return errorCatalogue[this.code].title;
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }

  get retryable(): boolean {
    return errorCatalogue[this.code].retryable;
  }

  /** A plain object that survives JSON and process boundaries. */
  toJSON(): SerializedError {
    return { code: this.code, detail: this.message, place: this.place, hint: this.hint };
  }

  static fromJSON(value: SerializedError): OctetError {
    return new OctetError(value.code, value.detail, value.place, { hint: value.hint });
  }

  /** Wrap anything thrown; an OctetError passes through unchanged. */
  static from(error: unknown, code: ErrorCode = 'INTERNAL', place: ErrorPlace = {}): OctetError {
    if (error instanceof OctetError) return error;
    const detail = error instanceof Error ? error.message : String(error);
    return new OctetError(code, detail, place, { cause: error });
  }
}

export interface SerializedError {
  code: ErrorCode;
  detail: string;
  place: ErrorPlace;
  hint: string;
}

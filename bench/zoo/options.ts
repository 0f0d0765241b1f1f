/** One job of the zoo: paths of the model, of the samples to calibrate with and to evaluate with, and of the folder for the result. */
export interface ZooJob {
  model: string;
  calibration: string;
  evaluation: string;
  method: 'ptq' | 'qat';
  /** Width of weights: 7 is what the target onnxruntime has by default. */
  weightBits: 7 | 8;
  output: string;
}

export interface Refused {
  code: string;
  reason: string;
  hint: string;
}

export interface Accepted {
  /** Path of the int8 model. */
  model: string;
  /** Layers that are int8. */
  int8: number;
  /** Nodes that stayed float, with the reason. */
  float: string[];
  outputs: { name: string; kind: string; judged: boolean; why: string; sqnrDb: number | null }[];
  verdict: string;
  warnings: string[];
}

export type ZooResult = Refused | Accepted;

/** What Python says of an int8 file: dB of outputs of floats, whether the others are the same. */
export type Figures = Record<string, number | 'same' | 'differs' | null>;

export interface Checked {
  /** What the checker of ONNX has against the files; null where nothing. */
  checkerFloat: string | null;
  checkerInt8: string | null;
  /** What is not declared as it was; null where nothing. */
  interface: string | null;
  octet: Figures;
  /** The same with weights of 8 bits. */
  wide: Figures;
  static: Record<string, Figures>;
  /** Activations that `quantize_static` made integers of; 0 where it found no types and left them. */
  staticActivations: number | null;
  staticError: string | null;
}

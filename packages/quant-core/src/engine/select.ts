import { engineWishes } from '../choices.js';
import { OctetError } from '../errors.js';
import type { EngineWish } from '../recipe.js';
import type { Engine } from './engine.js';
import { OrtEngine } from './ort/ort.js';
import { SplitEngine } from './split.js';
import type { TfjsEngine } from './tfjs/tfjs.js';

/** The engine of a job, and what its report has to say about the choice. */
export interface ChosenEngine {
  engine: Engine;
  notes: { code: string; text: string }[];
}

/** How engines are made; replaced in tests. */
export interface EngineMakers {
  ort(): Engine;
  tfjs(): Promise<Pick<TfjsEngine, 'backend' | 'missing'> & Engine>;
}

const makers: EngineMakers = {
  ort: () => new OrtEngine(),
  // Nothing of TF.js is read before it is wanted.
  tfjs: async () => (await import('./tfjs/tfjs.js')).TfjsEngine.create(),
};

/** The wish of the recipe, else that of the machine. Throws CONFIG_INVALID. */
function wishOf(recipe: EngineWish, machine: string | undefined): EngineWish {
  if (recipe !== 'auto' || !machine) return recipe;
  if (!(engineWishes as readonly string[]).includes(machine))
    throw new OctetError(
      'CONFIG_INVALID',
      `OCTET_ENGINE is "${machine}"`,
      {},
      { hint: `Set OCTET_ENGINE to one of ${engineWishes.join(', ')}, or leave it out.` },
    );
  return machine as EngineWish;
}

/**
 * The engine that a recipe asks for, or else the environment variable `OCTET_ENGINE`, or else ONNX Runtime with TF.js where it has
 * no binary. With TF.js asked for, finished model files still run in ONNX Runtime wherever that loads.
 * Throws ENGINE_UNAVAILABLE, CONFIG_INVALID.
 */
export async function chooseEngine(
  recipe: EngineWish,
  machine: string | undefined = process.env.OCTET_ENGINE,
  make: EngineMakers = makers,
): Promise<ChosenEngine> {
  const wish = wishOf(recipe, machine);
  let ort: Engine | undefined;
  let why: OctetError | undefined;
  try {
    ort = make.ort();
  } catch (error) {
    why = OctetError.from(error, 'ENGINE_UNAVAILABLE');
  }
  if (wish !== 'tfjs' && ort) return { engine: ort, notes: [] };
  if (wish === 'ort') throw why;
  const tfjs = await make.tfjs();
  const slower = tfjs.missing.map((one) => ` ${one.why}.`).join('');
  const ran = `Calibration, training and simulation ran in TF.js (${tfjs.version}), on one thread.${slower}`;
  if (ort) return { engine: new SplitEngine(tfjs, ort), notes: [{ code: 'ENGINE_TFJS', text: ran }] };
  return {
    engine: tfjs,
    notes: [
      {
        code: wish === 'tfjs' ? 'ENGINE_TFJS' : 'ENGINE_FALLBACK',
        text: `${why?.message}. ${ran}`,
      },
      {
        code: 'NOT_RUN_ON_INTEGERS',
        text: 'Without ONNX Runtime the int8 model was only simulated: its quantized tensors are whole numbers in float32, as in training. Accuracy is that of the simulation; latency is that of TF.js and says nothing of int8 speed. Run the model in the runtime that will serve it before you ship it.',
      },
    ],
  };
}

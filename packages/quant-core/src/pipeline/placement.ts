import { performance } from 'node:perf_hooks';
import type { CalibratedRange } from '../calibrate/calibrate.js';
import { mostOptimizedNodes } from '../engine/engine.js';
import { readCpu } from '../evaluate/cpu.js';
import { explain, holds, score, searchPlacement, withPlacement } from '../fakequant/placement.js';
import type { Placement } from '../fakequant/placementRecord.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { calibrateModel } from './candidates.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { type PreparedModel, planFor } from './model.js';
import { Course, runsOf, threads } from './placementTimes.js';

/** What a job goes on with: the plan, ranges for it, and what was measured, if anything was. */
export interface Placed {
  plan: QuantPlan;
  calibrated: ReadonlyMap<string, CalibratedRange>;
  placement: Placement | null;
}

/** Times within this factor are called equal. */
const noticeable = 1.02;
/** Time for mixed models, seconds; what is under way is finished. */
const searchSeconds = 60;

/**
 * The plan that the recipe asks for. With placement "auto", mixed models are measured against the float file and against all layers in int8,
 * and those layers stay float that make the model faster.
 */
export async function placeLayers(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
  calibrated: ReadonlyMap<string, CalibratedRange>,
  floatPath: string,
): Promise<Placed> {
  const all = { plan, calibrated, placement: null };
  if (context.job.recipe.quantization.placement !== 'auto') return all;
  const placement = await measurePlacement(context, model, plan, data, calibrated, floatPath);
  if (!placement) return all;
  const mixed = planWith(context, model, plan, placement);
  if (mixed === plan) return { ...all, placement };
  return { plan: mixed, calibrated: await calibrateModel(context, model, mixed, data), placement };
}

/** The plan after placement: `full` itself where no layer was left in float. */
export function planWith({ job: { recipe } }: Context, model: PreparedModel, full: QuantPlan, placement: Placement | null): QuantPlan {
  if (!placement?.layers.some((layer) => layer.left)) return full;
  return explain(planFor(model, withPlacement(recipe, placement)), placement);
}

async function measurePlacement(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  data: JobData,
  calibrated: ReadonlyMap<string, CalibratedRange>,
  floatPath: string,
): Promise<Placement | undefined> {
  const nodes = 4 * model.graph.nodes.length;
  if (!('onnxruntime' in context.engine.versions) || nodes > mostOptimizedNodes) {
    const why =
      nodes > mostOptimizedNodes ? 'the model has too many nodes for the optimizer of the runtime' : 'the job does not run in ONNX Runtime';
    context.warn('PLACEMENT_NOT_MEASURED', `quantization.placement "auto": ${why}, so all layers are int8 that can be.`);
    return undefined;
  }
  const course = new Course(context, model, plan, data, calibrated);
  const float = await course.open(await context.engine.load(floatPath, { threads, mode: 'infer' }));
  try {
    const everything = await course.mixed([]);
    const batches = await course.batchSizes(everything.program);
    const whole = await course.times([float, everything.program], batches, runsOf.trial);
    const layers = await course.layers(batches);
    const began = performance.now();
    let current = { key: '[]', ...everything };
    const { left, trials } = await searchPlacement({
      layers,
      whole: { float: whole[0] as number[], int8: whole[1] as number[] },
      mayGoOn: () => performance.now() - began < 1000 * searchSeconds,
      compare: async (candidate, against) => {
        if (current.key !== JSON.stringify(against)) {
          if (current.program !== everything.program) await course.close(current.program);
          current = { key: JSON.stringify(against), ...(await course.mixed(against)) };
        }
        const { program } = await course.mixed(candidate);
        const [own, other] = await course.times([program, current.program], batches, runsOf.trial);
        await course.close(program);
        return { candidate: own as number[], current: other as number[] };
      },
    });
    const chosen = left.length ? await course.mixed(left) : everything;
    const [own, int8, mixed] = await course.times([float, everything.program, chosen.program], batches, runsOf.last);
    const told = { float: own as number[], int8: int8 as number[], mixed: mixed as number[] };
    // A model is not compared with itself, whatever its two times say.
    const stands = left.length > 0 && holds(told);
    if (!stands) told.mixed = told.int8;
    const placement: Placement = {
      batches,
      threads,
      cpu: readCpu().model,
      whole: told,
      bytes: { int8: everything.bytes, mixed: stands ? chosen.bytes : everything.bytes },
      layers: layers.map(({ name, op, float, int8 }) => ({
        name,
        op,
        left: stands && left.includes(name),
        float: [...float],
        int8: [...int8],
      })),
      trials,
      note: '',
    };
    placement.note = noteOf(placement);
    if (placement.layers.every((layer) => !layer.left) && score(told.int8.map((ms, b) => ms / (told.float[b] as number))) > 0)
      context.warn('PLACEMENT_NOTHING_FASTER', placement.note);
    return placement;
  } finally {
    await course.closeAll();
  }
}

/** What came of it, in sentences. */
function noteOf({ layers, whole, batches }: Placement): string {
  const left = layers.filter((layer) => layer.left).length;
  const slower = batches.filter((_, b) => (whole.mixed[b] as number) > noticeable * (whole.float[b] as number));
  const where = slower.length === batches.length ? '' : ` at batch ${slower.join(' and ')}`;
  if (left) return `${left} of ${layers.length} layers are left in float, since the model is faster so on this machine.`;
  if (!slower.length) return 'All layers are int8: no mixed model was faster on this machine.';
  return `All layers stay int8, although float is faster on this machine${where}: no mixed model was faster. The int8 file is smaller all the same.`;
}

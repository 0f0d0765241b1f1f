import { withTaps } from '../calibrate/calibrate.js';
import { batches } from '../data/batches.js';
import type { Program } from '../engine/engine.js';
import { type LayerTap, layerErrors } from '../evaluate/layers.js';
import { layerBytes } from '../evaluate/sizes.js';
import type { QuantPlan } from '../fakequant/plan.js';
import { extract } from '../ir/extract.js';
import type { Graph, Node, Value } from '../ir/graph.js';
import { spec } from '../ir/ops.js';
import type { LayerReport } from '../report/schema.js';
import type { Candidate } from './candidates.js';
import type { Context } from './context.js';
import type { JobData } from './data.js';
import { inputName } from './inputs.js';
import { graphBatch, type PreparedModel } from './model.js';

const fixedTo = (fixedBatch: number | undefined) => (fixedBatch === undefined ? {} : { fixedBatch });

/** Samples on which layers are compared. */
const layerSamples = 256;
/** Above this many layers, each alone is no longer measured: it would take a program a layer. */
const mostLocalLayers = 200;

/** The quantized value that a layer ends in, through absorbed activations; its own output where none is. */
export function endOf(node: Node, points: ReadonlyMap<string, unknown>): Value {
  let at = node.output();
  while (!points.has(at.name) && at.readers.length === 1 && spec((at.readers[0] as Node).op).absorbedByRequantization)
    at = (at.readers[0] as Node).output();
  return points.has(at.name) ? at : node.output();
}

/** One row for every layer with weights and every node that stays float, with its error on evaluation samples. */
export async function layerRows(
  context: Context,
  model: PreparedModel,
  plan: QuantPlan,
  candidate: Candidate,
  data: JobData,
): Promise<LayerReport[]> {
  const { engine, threads } = context;
  const nodes = new Map(candidate.float.nodes.map((node) => [node.name, node]));
  const points = new Map(plan.activations.map((point) => [point.value, point]));
  const layers = plan.weights.map((weight, index) => {
    const node = nodes.get(weight.node) as Node;
    return { weight, index, node, end: endOf(node, points) };
  });
  const simulated = new Map(candidate.simulation.values().map((value) => [value.name, value]));
  const quantTap = (end: Value) => {
    const dequantized = `${end.name}_dequantize`;
    // A quantized graph output swapped names with its dequantized value.
    return points.has(end.name) && !candidate.simulation.outputs.some((value) => value.name === end.name) && simulated.has(dequantized)
      ? dequantized
      : end.name;
  };
  const programs: Program[] = [];
  const load = async (graph: Graph) => {
    const program = await engine.compile(graph, { threads, mode: 'train' });
    programs.push(program);
    return program;
  };
  try {
    const taps: LayerTap[] = [];
    const locals = layers.length <= mostLocalLayers;
    const local = new Map<string, Graph>();
    for (const { node, end } of layers) {
      const input = node.input(0);
      if (locals)
        local.set(node.name, extract(candidate.simulation, [simulated.get(input.name) as Value], [simulated.get(quantTap(end)) as Value]));
    }
    const fed = [...new Set(layers.map(({ node }) => node.input(0).name))];
    const float = await load(withTaps(candidate.float, [...new Set([...layers.map(({ end }) => end.name), ...(locals ? fed : [])])]));
    const quantized = await load(withTaps(candidate.simulation, [...new Set(layers.map(({ end }) => quantTap(end)))]));
    for (const { node, end } of layers) {
      const point = points.get(end.name);
      const params = point && candidate.table.activations[point.group];
      const grid = point && plan.groups[point.group]?.grid;
      const own = local.get(node.name);
      taps.push({
        name: node.name,
        floatTap: end.name,
        quantTap: quantTap(end),
        ...(params && grid ? { grid: { ...params, qmin: grid.qmin, qmax: grid.qmax } } : {}),
        ...(own
          ? { local: { program: await load(own), feeds: { [own.inputs[0]?.name as string]: node.input(0).name }, output: quantTap(end) } }
          : {}),
      });
    }
    const errors = await layerErrors({
      float,
      quantized,
      input: inputName(model),
      layers: taps,
      batches: batches(data.evaluationSamples, data.evaluationIndices.subarray(0, layerSamples), {
        batchSize: context.job.recipe.evaluation.batchSize,
        ...context.abortable,
      }),
      ...fixedTo(graphBatch(model)),
      ...context.abortable,
    });
    const [floatBytes, int8Bytes] = [layerBytes(candidate.float), layerBytes(candidate.artifact)];
    const rows = layers.map(({ weight, index, node, end }, row): LayerReport => {
      const error = errors[row];
      const point = points.get(end.name);
      const params = point && candidate.table.activations[point.group];
      const scales = candidate.table.weights[index]?.scale ?? new Float32Array([1]);
      return {
        name: node.name,
        op: node.op,
        precision: 'int8',
        parameters: parametersOf(node),
        weightBits: weight.bits,
        weightStorage: weight.storage ?? 'int8',
        ...(point ? { activationBits: plan.groups[point.group]?.bits ?? 8 } : {}),
        perChannel: weight.axis !== undefined,
        ...(params ? { scale: params.scale, zeroPoint: params.zeroPoint } : {}),
        ...(error
          ? {
              range: error.range,
              sqnrAccumulatedDb: error.sqnrAccumulatedDb,
              ...(error.sqnrLocalDb === undefined ? {} : { sqnrLocalDb: error.sqnrLocalDb }),
              ...(error.rmseOverScale === undefined ? {} : { rmseOverScale: error.rmseOverScale }),
              ...(error.clipped === undefined ? {} : { clipped: error.clipped }),
            }
          : {}),
        channelSpread: scales.reduce((a, v) => Math.max(a, v), 0) / scales.reduce((a, v) => Math.min(a, v), Number.POSITIVE_INFINITY),
        floatBytes: floatBytes.get(node.name) ?? 0,
        int8Bytes: int8Bytes.get(node.name) ?? 0,
      };
    });
    return [...rows, ...floatRows(plan, nodes, floatBytes, int8Bytes)];
  } finally {
    for (const program of programs) await program.dispose();
  }
}

const parametersOf = (node: Node) => node.inputs.reduce((sum, value) => sum + (value?.constant?.size ?? 0), 0);

function floatRows(
  plan: QuantPlan,
  nodes: ReadonlyMap<string, Node>,
  floatBytes: ReadonlyMap<string, number>,
  int8Bytes: ReadonlyMap<string, number>,
): LayerReport[] {
  return plan.float.map(({ node: name, op, reason }) => {
    const node = nodes.get(name);
    return {
      name,
      op,
      precision: 'float',
      reason,
      parameters: node ? parametersOf(node) : 0,
      floatBytes: floatBytes.get(name) ?? 0,
      int8Bytes: int8Bytes.get(name) ?? 0,
    };
  });
}

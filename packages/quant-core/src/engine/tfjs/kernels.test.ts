import { describe, expect, it } from 'vitest';
import { inferShapes } from '../../ir/infer.js';
import { parse } from '../../ir/text.js';
import { verify } from '../../ir/verify.js';
import { difference, runGraph } from '../../normalise/testing/oracle.js';
import { kernels } from './kernels/table.js';
import { cases } from './testing/cases.js';
import { enginesHere, feedsFor } from './testing/engines.js';

const engines = await enginesHere();

/** A graph of a case. It returns `y` unless it says so, and is of opset 18 where its name has no other number. */
function graphOf(text: string) {
  const opset = /^g(\d+)/.exec(text)?.[1] ?? '18';
  const graph = parse(`graph ${text.replace('\n', ` opset ${opset}\n`)}${text.includes('\nreturn') ? '' : '\nreturn y'}`);
  inferShapes(graph);
  verify(graph);
  return graph;
}

it('every kernel has a case', () => {
  expect(Object.keys(cases).sort()).toEqual(Object.keys(kernels).sort());
});

it('runs on WASM and in plain JavaScript everywhere', () => {
  expect(engines.map((engine) => engine.backend)).toEqual(expect.arrayContaining(['wasm', 'cpu']));
});

describe.each(engines.map((engine) => [engine.backend, engine] as const))('TF.js %s computes what ONNX Runtime does', (_name, engine) => {
  const rows = Object.entries(cases).flatMap(([op, texts]) => texts.map((text) => [op, text] as const));
  it.each(rows)('%s: %s', async (op, text) => {
    const graph = graphOf(text);
    expect(graph.nodes.map((node) => node.op)).toContain(op);
    const feeds = feedsFor(graph);
    const wanted = await runGraph(graph, feeds);
    const program = await engine.compile(graph, { threads: 1, mode: 'train' });
    for (let round = 0; round < 2; round++) {
      const got = await program.run(feeds);
      for (const [name, { dtype }] of Object.entries(wanted)) expect(got[name]?.dtype).toBe(dtype);
      expect(difference(wanted, got)).toBeLessThan(1e-5);
    }
    await program.dispose();
  });
});

// Joins the commands of quant-core, which every job process reads when it starts, into a few files: 170 small ones take twice as long to read.
// Names of functions and of files stay readable in stack traces. Runs after tsc, on what that wrote.
import { rm } from 'node:fs/promises';
import { build } from 'esbuild';

const dist = 'packages/quant-core/dist';
const outdir = `${dist}/job`;

await rm(outdir, { recursive: true, force: true });
await build({
  // The worker thread is started by its address, beside the file that starts it.
  entryPoints: { commands: `${dist}/commands.js`, 'session-worker': `${dist}/engine/ort/session-worker.js` },
  outdir,
  bundle: true,
  // What is imported in the course of the work stays apart, and is read only then.
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
});

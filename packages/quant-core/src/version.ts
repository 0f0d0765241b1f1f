import { createRequire } from 'node:module';

/** By the name of the package: this file runs from the sources, from the build, and joined with others. */
const manifest = createRequire(import.meta.url)('@octet/quant-core/package.json') as { version: string };

/** Version of the pipeline: part of every report, and of what a checkpoint must match. */
export const octetVersion = manifest.version;

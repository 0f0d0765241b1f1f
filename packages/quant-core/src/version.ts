import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };

/** Version of the pipeline: part of every report, and of what a checkpoint must match. */
export const octetVersion = manifest.version;

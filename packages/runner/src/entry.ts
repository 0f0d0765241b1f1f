import { type Dirent, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** How a job process is started: the file, and what Node needs to read it. */
export interface Entry {
  file: string;
  execArgv: string[];
  env: Record<string, string>;
}

const here = fileURLToPath(new URL('.', import.meta.url));

/**
 * The built entry beside this file. Where this file is read from source (tests), the build is used as long as nothing it is made of
 * is newer; otherwise tsx reads the source, which takes seconds to start.
 * @param packages the packages that the process loads
 */
export function jobProcessEntry(packages: readonly string[]): Entry {
  if (!import.meta.url.endsWith('.ts')) return { file: path.join(here, 'job-process.js'), execArgv: [], env: {} };
  const root = path.resolve(here, '../../..');
  if (packages.every((name) => isBuilt(path.join(root, 'packages', name))))
    return { file: path.join(here, '../dist/job-process.js'), execArgv: [], env: {} };
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  return {
    file: path.join(here, 'job-process.ts'),
    execArgv: ['--import', tsx],
    env: { TSX_TSCONFIG_PATH: path.join(root, 'tsconfig.json') },
  };
}

function isBuilt(directory: string): boolean {
  try {
    const timeOf = (file: string) => statSync(path.join(directory, 'dist', file)).mtimeMs;
    const built = Math.min(timeOf('.tsbuildinfo'), ...(directory.endsWith('quant-core') ? [timeOf('job/commands.js')] : []));
    const sources = readdirSync(path.join(directory, 'src'), { recursive: true, withFileTypes: true });
    const counts = (entry: Dirent) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts');
    return sources.every((entry) => !counts(entry) || statSync(path.join(entry.parentPath, entry.name)).mtimeMs <= built);
  } catch {
    return false;
  }
}

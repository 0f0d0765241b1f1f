import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

/** Run a program to its end and read the last line it prints as JSON. */
export async function figuresOf<T>(program: string, given: readonly string[]): Promise<T> {
  const { stdout } = await run(program, [...given], { maxBuffer: 1 << 20 });
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as T;
}

let plain: string | undefined;

/**
 * The sources of the benchmarks and of quant-core in plain JavaScript, as the build has them: a loader that reads TypeScript would
 * be part of every figure of memory and of every start.
 */
function plainSources(): string {
  const out = join(root, 'node_modules/.cache/octet-bench');
  rmSync(out, { recursive: true, force: true });
  for (const folder of ['bench', 'packages/quant-core/src']) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/(?<!\.test|\.d)\.[jt]s$/.test(entry.name)) continue;
      const source = join(entry.parentPath, entry.name);
      const target = join(out, source.slice(root.length));
      mkdirSync(dirname(target), { recursive: true });
      if (entry.name.endsWith('.js')) cpSync(source, target);
      else writeFileSync(target.replace(/ts$/, 'js'), transpiled(readFileSync(source, 'utf8')));
    }
  }
  return out;
}

const transpiled = (source: string): string =>
  ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023 } }).outputText;

/** The same for a TypeScript file beside this one, in a Node process of its own. */
export function figuresOfNode<T>(file: string, given: readonly string[]): Promise<T> {
  plain ??= plainSources();
  return figuresOf(process.execPath, [join(plain, 'bench', file.replace(/ts$/, 'js')), ...given]);
}

/** Path of a file beside this one. */
export const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

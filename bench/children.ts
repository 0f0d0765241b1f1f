import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Run a program to its end and read the last line it prints as JSON. */
export async function figuresOf<T>(program: string, given: readonly string[]): Promise<T> {
  const { stdout } = await run(program, [...given], { maxBuffer: 1 << 20 });
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as T;
}

/** The same for a TypeScript file beside this one, in a Node process like this one. */
export function figuresOfNode<T>(file: string, given: readonly string[]): Promise<T> {
  return figuresOf(process.execPath, [...process.execArgv, pathOf(file), ...given]);
}

/** Path of a file beside this one. */
export const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

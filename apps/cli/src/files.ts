import { constants } from 'node:fs';
import { access, copyFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { externalLocations } from '@octet/quant-core';
import { CliError } from './errors.js';

/** Checks that a path is a file that can be read, and gives its size. @throws CliError FILE_UNREADABLE */
export async function requireFile(file: string): Promise<number> {
  const refuse = (why: string, cause?: unknown) => new CliError('FILE_UNREADABLE', `${file}: ${why}`, { place: { file }, cause });
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw refuse(error.code === 'ENOENT' ? 'there is no such file' : error.message, error);
  });
  if (!found.isFile()) throw refuse(found.isDirectory() ? 'it is a directory; zip it first' : 'it is not a regular file');
  await access(file, constants.R_OK).catch((error: unknown) => {
    throw refuse('it may not be read by this user', error);
  });
  return found.size;
}

/** The files of external data that a model names, where they should lie: beside it. None for a zip, which holds its own. */
export function externalFiles(model: string): string[] {
  return externalLocations(model)
    .filter((location) => !path.isAbsolute(location) && !location.split(/[/\\]/).includes('..'))
    .map((location) => path.join(path.dirname(model), location));
}

/** Checks before the work that its result can be written. @throws CliError FILE_UNWRITABLE */
export async function requireWritable(file: string): Promise<void> {
  const directory = path.dirname(path.resolve(file));
  const refuse = (why: string, cause?: unknown) => new CliError('FILE_UNWRITABLE', `${file}: ${why}`, { place: { file }, cause });
  const found = await stat(directory).catch((error: unknown) => {
    throw refuse(`there is no directory ${directory}`, error);
  });
  if (!found.isDirectory()) throw refuse(`${directory} is not a directory`);
  await access(directory, constants.W_OK).catch((error: unknown) => {
    throw refuse(`${directory} may not be written by this user`, error);
  });
  if ((await stat(file).catch(() => null))?.isDirectory()) throw refuse('it is a directory');
}

/** Puts a file in its place in one step, so that half of it is never seen. */
export async function placeFile(content: { copyOf: string } | { text: string }, to: string): Promise<void> {
  const part = `${to}.${process.pid}.part`;
  try {
    if ('copyOf' in content) await copyFile(content.copyOf, part);
    else await writeFile(part, content.text);
    await rename(part, to);
  } catch (error) {
    await rm(part, { force: true });
    throw new CliError('FILE_UNWRITABLE', `${to}: ${error instanceof Error ? error.message : String(error)}`, {
      place: { file: to },
      cause: error,
    });
  }
}

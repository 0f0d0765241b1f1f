import { access, chmod, constants, cp, lstat, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { ServiceError } from '@octet/contracts';
import { reachableByOthers } from './account.js';

export interface Binaries {
  postgres: string;
  initdb: string;
}

/**
 * The PostgreSQL programs of the npm package for this platform, ready to run: with the symbolic links that its install script makes
 * (npm may have been told not to run scripts) and with the right to execute. Where the package cannot be mended in place, or the
 * account that runs the server cannot reach it, a copy under `copyTo` is used.
 * @throws EMBEDDED_POSTGRES
 */
export async function locateBinaries({ otherAccount, copyTo }: { otherAccount: boolean; copyTo: string }): Promise<Binaries> {
  const installed = packageDirectory();
  const usable = (!otherAccount || (await reachableByOthers(installed))) && (await mend(installed));
  const native = usable ? installed : await copied(installed, copyTo);
  return { postgres: path.join(native, 'bin', 'postgres'), initdb: path.join(native, 'bin', 'initdb') };
}

function packageDirectory(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const library = createRequire(import.meta.url).resolve('embedded-postgres');
    return path.resolve(path.dirname(createRequire(library).resolve(name)), '..', 'native');
  } catch (error) {
    throw new ServiceError('EMBEDDED_POSTGRES', `the package ${name} is not installed`, {
      hint: 'Install with optional dependencies on one of linux-x64, linux-arm64, darwin-x64, darwin-arm64, or set DATABASE_URL to a PostgreSQL server of your own.',
      cause: error,
    });
  }
}

/** Makes missing links and missing rights to execute. False when the directory may not be written. */
export async function mend(native: string): Promise<boolean> {
  try {
    const list = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
    for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
      const at = path.resolve(native, '..', target);
      if ((await lstat(at).catch(() => null)) !== null) continue;
      await symlink(path.relative(path.dirname(target), source), at).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    }
    for (const program of ['postgres', 'initdb']) {
      const file = path.join(native, 'bin', program);
      const { mode } = await stat(file);
      if ((mode & 0o555) !== 0o555) await chmod(file, mode | 0o555);
    }
    return true;
  } catch (error) {
    if (['EACCES', 'EPERM', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

async function copied(installed: string, copyTo: string): Promise<string> {
  const { version } = JSON.parse(await readFile(path.join(installed, '..', 'package.json'), 'utf8')) as { version: string };
  const target = path.join(copyTo, `postgresql-${version}`);
  const native = path.join(target, 'native');
  if (
    await access(path.join(target, 'native', 'bin', 'postgres'), constants.X_OK).then(
      () => true,
      () => false,
    )
  )
    return native;
  const partial = `${target}.${process.pid}`;
  await cp(installed, path.join(partial, 'native'), { recursive: true, verbatimSymlinks: true });
  if (!(await mend(path.join(partial, 'native'))))
    throw new ServiceError('EMBEDDED_POSTGRES', `cannot prepare a copy of the programs in ${copyTo}`);
  await rename(partial, target).catch(async () => rm(partial, { recursive: true, force: true }));
  return native;
}

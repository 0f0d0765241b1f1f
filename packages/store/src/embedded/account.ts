import { execFileSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { ServiceError } from '@octet/contracts';

/** PostgreSQL refuses to run as root; this is who runs it then. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

const created = 'octet-postgres';

/**
 * The account for the server: null for an ordinary user, who runs it as himself. As root an existing `postgres`, else
 * a system account made for this.
 * @throws EMBEDDED_POSTGRES when there is neither and none can be made
 */
export function serverAccount(): Account | null {
  if (process.getuid?.() !== 0) return null;
  const found = lookUp('postgres') ?? lookUp(created);
  if (found !== null) return found;
  try {
    execFileSync(
      'useradd',
      ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', created],
      { stdio: 'pipe' },
    );
  } catch (error) {
    const nobody = lookUp('nobody');
    if (nobody !== null) return nobody;
    throw new ServiceError('EMBEDDED_POSTGRES', 'PostgreSQL does not run as root, and no account could be made for it', {
      hint: 'Start Octet as an ordinary user, or set DATABASE_URL.',
      cause: error,
    });
  }
  const made = lookUp(created);
  if (made === null) throw new ServiceError('EMBEDDED_POSTGRES', `the account ${created} was made but is not found`);
  return made;
}

function lookUp(name: string): Account | null {
  try {
    const id = (flag: string) => Number(execFileSync('id', [flag, name], { stdio: 'pipe' }).toString());
    return { name, uid: id('-u'), gid: id('-g') };
  } catch {
    return null;
  }
}

/** Whether another account can reach this path: every directory above it, and itself, lets others pass. */
export async function reachableByOthers(target: string): Promise<boolean> {
  for (let at = path.resolve(target); ; at = path.dirname(at)) {
    const found = await stat(at).catch(() => null);
    if (found !== null && (found.mode & 0o001) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}

import { type Page, ServiceError } from '@octet/contracts';

/** Lists go from new to old; ids sort by time, so the last id of a page is where the next one begins. */
export interface PageRequest {
  /** Rows of a page, 1 to 200; 50 when left out. */
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** The part of a `findMany` that fetches one row more than the page, to know whether another follows. */
export function pageQuery({ limit = 50, cursor }: PageRequest): { take: number; orderBy: { id: 'desc' }; where: { id?: { lt: string } } } {
  const where = cursor === undefined ? {} : { id: { lt: decodeCursor(cursor) } };
  return { take: Math.min(Math.max(limit, 1), 200) + 1, orderBy: { id: 'desc' }, where };
}

export function pageOfRows<Row extends { id: string }, T>(rows: Row[], take: number, map: (row: Row) => T): Page<T> {
  const more = rows.length === take;
  const shown = more ? rows.slice(0, -1) : rows;
  const last = shown.at(-1);
  return { items: shown.map(map), nextCursor: more && last !== undefined ? Buffer.from(last.id).toString('base64url') : null };
}

function decodeCursor(cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString('latin1');
  if (!/^[a-z]{3}_[0-9a-z]{26}$/.test(id))
    throw new ServiceError('VALIDATION', 'cursor is not one that this service gave out', {
      place: { pointer: '/cursor' },
      hint: 'Use nextCursor of the page before, unchanged, or leave it out.',
    });
  return id;
}

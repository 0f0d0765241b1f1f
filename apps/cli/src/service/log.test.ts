import { expect, it } from 'vitest';
import { openLog } from './log.js';

/** What a person reads of these lines, without the time. */
function read(write: (log: ReturnType<typeof openLog>) => void): string[] {
  const pieces: string[] = [];
  write(openLog({ level: 'info', readable: true, destination: { write: (piece: string) => void pieces.push(piece) } }));
  return pieces
    .join('')
    .trimEnd()
    .split('\n')
    .map((line) => line.slice(9));
}

it('tells why: code and message of an error, also of a request, and the reason of a trouble', () => {
  const error = Object.assign(new Error('the disk\nis full'), { code: 'STORAGE_FULL' });
  const lines = read((log) => {
    log.error({ err: error, jobId: 'job_1' }, 'job failed');
    log.error({ err: new TypeError('x is undefined') }, 'the handler of a job failed');
    log.warn({ reason: 'connect ECONNREFUSED', role: 'worker', times: 12 }, 'no connection to Redis');
    log.warn({ code: 'JOB_CRASHED', detail: 'killed by SIGKILL', stage: 'train' }, 'job failed');
    log.error({ err: error, res: { statusCode: 507 }, req: { method: 'POST', url: '/v1/models' }, responseTime: 1.2 }, 'request errored');
  });
  expect(lines).toEqual([
    'error job failed jobId=job_1 STORAGE_FULL: the disk is full',
    'error the handler of a job failed TypeError: x is undefined',
    'warn  no connection to Redis reason=connect ECONNREFUSED role=worker times=12',
    'warn  job failed code=JOB_CRASHED detail=killed by SIGKILL stage=train',
    'error POST /v1/models 507 in 1 ms STORAGE_FULL: the disk is full',
  ]);
});

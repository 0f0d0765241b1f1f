import { expect, inject, it } from 'vitest';
import { complaintsOfRun } from '../../../tests/support/openapi/run.js';

/** A short run of the client that tests/long runs for minutes; the commands of job processes are those of tests/support/job-commands.ts. */
it('answers generated requests as its OpenAPI document says, and never with 5xx', async () => {
  const found = await complaintsOfRun({ module: inject('jobCommands'), requests: 200, seed: 9 });
  expect(found).toEqual([]);
});

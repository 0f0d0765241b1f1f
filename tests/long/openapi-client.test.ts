import { expect, it } from 'vitest';
import { complaintsOfRun } from '../support/openapi/run.js';

/**
 * Thousands of generated requests to the service with real inspections and real jobs. OCTET_REQUESTS and OCTET_SEED ask for more, or for
 * the run of an earlier day again.
 */
it('answers generated requests as its OpenAPI document says, and never with 5xx', async () => {
  const seed = Number(process.env.OCTET_SEED ?? Date.now() % 1_000_000);
  const found = await complaintsOfRun({ requests: Number(process.env.OCTET_REQUESTS ?? 3_000), seed });
  expect(found, `seed ${seed}`).toEqual([]);
});

import { catalogue } from '@octet/contracts';
import { expect, it } from 'vitest';
import { startApi } from '../../../tests/support/api.js';
import { errorsHtml, errorsMarkdown } from './pages/errors.js';

/** Documents that are written out of the code. `npx vitest run apps/api/src/documents -u` writes them again. */

it('openapi.json is what the routes say', async () => {
  const api = await startApi();
  const document = await (await fetch(`${api.url}/openapi.json`)).json();
  await api.close();
  expect(document.openapi).toBe('3.1.0');
  const operations = Object.values<Record<string, { operationId?: string; summary?: string }>>(document.paths).flatMap((path) =>
    Object.values(path),
  );
  expect(operations.filter((operation) => operation.operationId === undefined || operation.summary === undefined)).toEqual([]);
  expect(new Set(operations.map((operation) => operation.operationId)).size).toBe(operations.length);
  expect(Object.keys(document.components.schemas).sort()).toEqual(
    expect.arrayContaining(['Dataset', 'Job', 'JobRequest', 'Model', 'Problem']),
  );
  for (const [, reference = ''] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
    expect(document.components.schemas).toHaveProperty(reference);
  expect(document.components.schemas.JobRequest.required).toEqual(['model', 'dataset']);
  await expect(`${JSON.stringify(document, null, 2)}\n`).toMatchFileSnapshot('../openapi.json');
});

it('docs/errors.md has every code of both catalogues', async () => {
  const codes = [...errorsMarkdown().matchAll(/^### (\w+)$/gm)].map((match) => match[1]);
  expect(codes).toEqual(Object.keys(catalogue));
  for (const code of codes) expect(errorsHtml()).toContain(`id="${code}"`);
  await expect(errorsMarkdown()).toMatchFileSnapshot('../../../docs/errors.md');
});

// Whether apps/api/openapi.json is a valid OpenAPI document, in the opinion of a validator that is not ours.
import { readFile } from 'node:fs/promises';
import { Validator } from '@seriousme/openapi-schema-validator';

const file = new URL('../apps/api/openapi.json', import.meta.url);
const { valid, errors } = await new Validator().validate(JSON.parse(await readFile(file, 'utf8')));
if (!valid) {
  process.stderr.write(
    `apps/api/openapi.json is not valid OpenAPI: ${typeof errors === 'string' ? errors : JSON.stringify(errors, null, 2)}\n`,
  );
  process.exitCode = 1;
}

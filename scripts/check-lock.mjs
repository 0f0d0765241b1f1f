// Holds package-lock.json to two rules, so that `npm ci` works from every registry and on every platform:
// no entry names a registry's host, and every optional package has an entry, also those of other platforms (npm leaves out the ones
// its registry did not offer, and then refuses its own lock file).
import { readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
const problems = [];
for (const [path, entry] of Object.entries(packages)) {
  if (/^[a-z+]+:/.test(entry.resolved ?? '')) problems.push(`${path} is resolved to ${entry.resolved}`);
  for (const name of Object.keys(entry.optionalDependencies ?? {})) {
    if (!packages[`node_modules/${name}`] && !packages[`${path}/node_modules/${name}`]) problems.push(`${path} needs an entry for ${name}`);
  }
}
for (const problem of problems) console.error(`package-lock.json: ${problem}`);
process.exit(problems.length === 0 ? 0 : 1);

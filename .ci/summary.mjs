// Prints "N passed, N failed" out of vitest's JSON report; a file that failed before its first test counts as one failure.
import { readFileSync } from 'node:fs';

let passed = 0;
let failed = 0;
try {
  for (const file of JSON.parse(readFileSync(process.argv[2], 'utf8')).testResults) {
    const statuses = file.assertionResults.map((test) => test.status);
    passed += statuses.filter((status) => status === 'passed').length;
    const broken = statuses.filter((status) => status === 'failed').length;
    failed += file.status === 'failed' ? Math.max(broken, 1) : broken;
  }
} catch (error) {
  console.error(`The tests left no report: ${error.message}`);
  failed = Math.max(failed, 1);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

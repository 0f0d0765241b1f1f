import { Staging } from '../../apps/api/src/http/staging.js';

/** Holds a staging folder in the directory named, says so, and waits to be killed. */
await Staging.open(process.argv[2] ?? '', { apiKeyName: undefined, ip: '127.0.0.1' });
process.stdout.write('open\n');
process.stdin.resume();

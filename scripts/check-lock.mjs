// A lock file that names a registry's host installs only where that host is reached; npm finds the packages without it.
import { readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
const hosts = Object.entries(packages).filter(([, entry]) => /^[a-z+]+:/.test(entry.resolved ?? ''));
for (const [path, entry] of hosts) console.error(`package-lock.json: ${path} is resolved to ${entry.resolved}`);
process.exit(hosts.length === 0 ? 0 : 1);

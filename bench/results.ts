import { appendFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(new URL('RESULTS.md', import.meta.url));

export interface Measurement {
  title: string;
  command: string;
  machine: string;
  versions: readonly string[];
  /** Tables and sentences in Markdown. */
  body: string;
}

/** Processor, cores and memory of this machine, in words. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  return `${model}, ${cpus().length} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${process.platform} ${process.arch}, Node ${process.versions.node}`;
}

/** A Markdown table. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, column) => (column === 0 ? '---' : '--:'))), ...rows.map(line)].join('\n');
}

/** Add what was measured to bench/RESULTS.md, with the date, the machine and the command that repeats it. */
export function appendResults({ title, command, machine: where, versions, body }: Measurement): void {
  const date = new Date().toISOString().slice(0, 10);
  appendFileSync(file, `\n## ${title}, ${date}\n\n\`${command}\`, on ${[where, ...versions].join('; ')}.\n\n${body}\n`);
}

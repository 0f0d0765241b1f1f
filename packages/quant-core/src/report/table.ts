/** A column: its heading and on which side its cells stand. */
export type Column = string | { head: string; right: true };

/** Text that stays inside one table cell or one line of Markdown. */
export function inline(text: string): string {
  return text
    .replace(/[\r\n]+/g, ' ')
    .replace(/\|/g, '\\|')
    .replace(/[<>]/g, (sign) => (sign === '<' ? '&lt;' : '&gt;'));
}

/** Code in a cell: backticks and line breaks of the text cannot end it. */
export function code(text: string): string {
  return `\`${text.replace(/[\r\n`]+/g, ' ').replace(/\|/g, '\\|')}\``;
}

/** A Markdown table with cells padded to equal width, so that it reads well on a terminal too. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const heads = columns.map((column) => (typeof column === 'string' ? column : column.head));
  const right = columns.map((column) => typeof column !== 'string');
  const widths = heads.map((head, c) => Math.max(3, width(head), ...rows.map((row) => width(row[c] ?? ''))));
  const line = (cells: readonly string[]) => `| ${widths.map((w, c) => pad(cells[c] ?? '', w, right[c]!)).join(' | ')} |`;
  const rule = `| ${widths.map((w, c) => (right[c] ? `${'-'.repeat(w - 1)}:` : '-'.repeat(w))).join(' | ')} |`;
  return [line(heads), rule, ...rows.map(line)].join('\n');
}

const width = (text: string) => [...text].length;

function pad(text: string, to: number, right: boolean): string {
  const space = ' '.repeat(to - width(text));
  return right ? space + text : text + space;
}

/** The first `most` rows, and a note about the rest. */
export function cut<T>(rows: readonly T[], most: number, what: string): { rows: readonly T[]; note: string[] } {
  if (rows.length <= most) return { rows, note: [] };
  return { rows: rows.slice(0, most), note: [`…and ${rows.length - most} more ${what} in the JSON report.`] };
}

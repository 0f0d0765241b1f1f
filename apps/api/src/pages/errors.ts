import { catalogue, serviceCatalogue } from '@octet/contracts';
import { page } from './page.js';

const intro =
  'Every error of Octet carries one of these codes: in the `code` of an `application/problem+json` answer (RFC 9457), or in the `error` of a failed job. ' +
  'The `detail` beside it names the node, tensor, sample or field; `retryable` says whether the same request may succeed later.';

function sections(): { title: string; codes: string[] }[] {
  const service = new Set(Object.keys(serviceCatalogue));
  const codes = Object.keys(catalogue);
  return [
    { title: 'Models, datasets and training', codes: codes.filter((code) => !service.has(code)) },
    { title: 'The service', codes: codes.filter((code) => service.has(code)) },
  ];
}

function entry(code: string): { title: string; status: number; hint: string; retryable: boolean } {
  return catalogue[code as keyof typeof catalogue];
}

/** docs/errors.md, out of both catalogues. */
export function errorsMarkdown(): string {
  const parts = sections().map(({ title, codes }) => {
    const rows = codes.map((code) => {
      const { title: what, status, hint, retryable } = entry(code);
      return `### ${code}\n\n${what}. Status ${status}${retryable ? ', retryable' : ''}.\n\n${hint}\n`;
    });
    return `## ${title}\n\n${rows.join('\n')}`;
  });
  return `# Errors\n\n${intro}\n\nWritten out of the code by \`npx vitest run apps/api/src/documents -u\`; a test compares the two.\n\n${parts.join('\n')}`;
}

/** The same as a page; each code is an anchor, the target of a problem's \`type\`. */
export function errorsHtml(): string {
  const parts = sections().map(({ title, codes }) => {
    const rows = codes.map((code) => {
      const { title: what, status, hint, retryable } = entry(code);
      return `<section id="${code}"><h3><a href="#${code}">${code}</a></h3><p><b>${escapeHtml(what)}.</b> Status ${status}${retryable ? ', retryable' : ''}.</p><p>${escapeHtml(hint)}</p></section>`;
    });
    return `<h2>${title}</h2>${rows.join('')}`;
  });
  return page('Errors - Octet', `<h1>Errors</h1><p>${escapeHtml(intro).replace(/`([^`]+)`/g, '<code>$1</code>')}</p>${parts.join('')}`);
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

const style = `:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
pre,code{font-family:ui-monospace,monospace;font-size:.9em}pre{padding:.8rem;overflow:auto;border:1px solid #8884;border-radius:4px}
h3{margin-bottom:0}section:target{outline:2px solid #48f;outline-offset:6px}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}`;

/** A plain HTML page, without scripts. */
export function page(title: string, body: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${title}</title><style>${style}</style></head><body>${body}</body></html>\n`;
}

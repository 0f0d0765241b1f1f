import { build } from 'esbuild';

/** What a module brings along when it starts: its own files, and the packages and built-in modules that it or one of them imports. */
export interface StaticImports {
  files: string[];
  packages: string[];
}

/** Everything that an entry imports and that is read before its first line runs; what is imported in the course of the work does not count. */
export async function staticImports(entry: string): Promise<StaticImports> {
  const { metafile } = await build({
    entryPoints: [entry],
    outdir: 'unused',
    bundle: true,
    splitting: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'silent',
  });
  const files = new Set<string>();
  const packages = new Set<string>();
  const seen = new Set<string>();
  const visit = (path: string) => {
    const output = metafile.outputs[path];
    if (!output || seen.has(path)) return;
    seen.add(path);
    for (const [file, { bytesInOutput }] of Object.entries(output.inputs)) if (bytesInOutput > 0) files.add(file);
    for (const { path: imported, kind, external } of output.imports) {
      if (kind === 'dynamic-import') continue;
      if (!external) visit(imported);
      else if (!imported.startsWith('node:')) packages.add(imported);
    }
  };
  const first = Object.entries(metafile.outputs).find(([, output]) => output.entryPoint !== undefined && entry.endsWith(output.entryPoint));
  if (!first) throw new Error(`${entry} is no entry of its own bundle`);
  visit(first[0]);
  return { files: [...files].sort(), packages: [...packages].sort() };
}

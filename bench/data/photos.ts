import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import type sharp from 'sharp';
import { zip } from '../../packages/quant-core/src/data/testing/zip.js';
import { Random } from '../../packages/quant-core/src/tensor/random.js';
import { figuresOf, figuresOfNode, pathOf } from '../children.js';
import { median } from '../models/inputs.js';
import { classes } from '../models/networks.js';
import { table } from '../results.js';

export interface LayOutFigures {
  samples: number;
  seconds: number;
  cpuSeconds: number;
  version?: string;
}

/** A zip of class folders with JPEG images of noise over a slope, as heavy to decode as photographs of that size. */
export async function imageFolders(count: number, height: number, width: number): Promise<Buffer> {
  const decoder = createRequire(new URL('../../packages/quant-core/package.json', import.meta.url))('sharp') as typeof sharp;
  const random = Random.for(3, 'images');
  const entries: { name: string; data: Buffer }[] = [];
  for (let image = 0; image < count; image++) {
    const pixels = Uint8Array.from({ length: height * width * 3 }, (_, at) => (at / (width * 12) + 60 * random.uniform()) & 255);
    const data = await decoder(pixels, { raw: { width, height, channels: 3 } })
      .jpeg({ quality: 85 })
      .toBuffer();
    entries.push({ name: `class${image % classes}/${image}.jpg`, data });
  }
  return zip(entries);
}

const side = 224;

/** Photographs laid out by Octet and by Pillow, on one core and on several, in turns. Gives a table, and the version of Pillow. */
export async function comparePhotos(
  path: string,
  { threads, rounds, python }: { threads: number; rounds: number; python: string },
): Promise<{ body: string; versions: string[] }> {
  const pillow = spawnSync(python, ['-c', 'import PIL'], { stdio: 'ignore' }).status === 0;
  if (!pillow) console.log(`${python} cannot import PIL (pip install pillow); Octet is measured alone. --python or PYTHON names another.`);
  const counts = threads > 1 ? [1, threads] : [1];
  const runs: Record<string, LayOutFigures[]> = {};
  const note = (name: string, figures: LayOutFigures) => {
    runs[name] = [...(runs[name] ?? []), figures];
  };
  for (let round = 0; round < rounds; round++) {
    for (const count of counts) {
      const given = [path, String(side), String(side), String(count)];
      const cores = count === 1 ? '1 at a time' : `${count} cores`;
      note(`Octet, ${cores}`, await figuresOfNode<LayOutFigures>('data/contender.ts', given));
      if (pillow) note(`Pillow, ${cores}`, await figuresOf<LayOutFigures>(python, [pathOf('peers/images.py'), ...given]));
    }
  }
  const rate = (figures: readonly LayOutFigures[]) => median(figures.map(({ samples, seconds }) => samples / seconds));
  const cpu = (figures: readonly LayOutFigures[]) => median(figures.map(({ samples, cpuSeconds }) => (1000 * cpuSeconds) / samples));
  const rows = Object.entries(runs).map(([name, figures]) => {
    const peer = runs[name.replace('Octet', 'Pillow')];
    const ratio = peer && peer !== figures ? (rate(figures) / rate(peer)).toFixed(2) : '';
    return [name, rate(figures).toFixed(0), cpu(figures).toFixed(2), ratio];
  });
  const version = Object.values(runs)
    .flat()
    .find((figures) => figures.version)?.version;
  const title = `${runs['Octet, 1 at a time']?.[0]?.samples} JPEGs of 500×375 to ${side}×${side}`;
  return {
    body: table([title, `images/s, median of ${rounds}`, 'ms of CPU an image', '÷ Pillow'], rows),
    versions: version ? [version] : [],
  };
}

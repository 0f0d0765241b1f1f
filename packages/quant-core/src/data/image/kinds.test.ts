import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { failure } from '../testing/files.js';
import { decodeImage } from './decode.js';
import { resize } from './resize.js';

/** An image and what Pillow makes of it, in base64; written by scripts/image-kinds.py. */
interface Recorded {
  name: string;
  width: number;
  height: number;
  file: string;
  rgb: string;
  grey: string;
  small: string;
  large: string;
  refused?: boolean;
}

const recorded = (path: string | URL) => JSON.parse(readFileSync(path, 'utf8')) as Recorded[];

/** Compare every reading of a file with Pillow's; gives how many bytes differ in each. */
async function differences({ name, width, height, file, ...wanted }: Recorded): Promise<Record<string, number>> {
  const data = Buffer.from(file, 'base64');
  const targets = {
    rgb: { width, height, channels: 3 },
    grey: { width, height, channels: 1 },
    small: { width: 8, height: 5, channels: 3 },
    large: { width: 50, height: 40, channels: 3 },
  } as const;
  const different: Record<string, number> = {};
  for (const [reading, target] of Object.entries(targets)) {
    const want = Buffer.from(wanted[reading as keyof typeof targets], 'base64');
    if (want.length === 0) continue;
    const got = (await decodeImage(data, name, target)).data;
    different[reading] = got.length === want.length ? want.filter((byte, i) => byte !== got[i]).length : Number.POSITIVE_INFINITY;
  }
  return different;
}

describe('the bytes of Pillow', () => {
  test.each(recorded(new URL('testing/kinds.json', import.meta.url)))('$name', async (image) => {
    expect(await differences(image)).toEqual({ rgb: 0, grey: 0, small: 0 });
  });
});

describe('kinds that are not read are named', () => {
  test.each([
    ['AVIF', Buffer.from('\0\0\0\x20ftypavif\0\0\0\0', 'latin1')],
    ['JPEG 2000', Buffer.from('\0\0\0\x0cjP  \r\n\x87\n', 'latin1')],
    ['Photoshop', Buffer.from('8BPS\0\x01', 'latin1')],
  ])('%s', async (kind, data) => {
    const error = await failure('DATASET_UNREADABLE', () => decodeImage(data, 'a.jpg', { height: 1, width: 1, channels: 3 }));
    expect(error.message).toContain(`"a.jpg" cannot be decoded: ${kind}`);
  });
});

test('damaged files of our own readers are refused, whatever is cut off', async () => {
  for (const { name, file } of recorded(new URL('testing/kinds.json', import.meta.url))) {
    if (!/^(bmp|gif|netpbm)/.test(name)) continue;
    const whole = Buffer.from(file, 'base64');
    for (const length of [12, 20, Math.floor(whole.length / 2), whole.length - 4]) {
      const error = await failure('DATASET_UNREADABLE', () =>
        decodeImage(whole.subarray(0, length), name, { height: 4, width: 4, channels: 3 }),
      );
      expect(error.place.file).toBe(name);
    }
  }
});

test('an image is resized in blocks to the same bytes as at once', () => {
  // 12 MB of pixels are several blocks; a band of rows in the middle is one.
  const [height, width] = [2000, 2000];
  const data = Uint8Array.from({ length: height * width * 3 }, (_, i) => Math.imul(i, 2654435761) >>> 24);
  const whole = resize({ height, width, channels: 3, data }, { height: 500, width: 300 });
  const band = data.subarray(996 * width * 3, 1012 * width * 3);
  const part = resize({ height: 16, width, channels: 3, data: band }, { height: 4, width: 300 });
  // Rows 250 and 251 of the result see rows 996 … 1011 only, as rows 1 and 2 of the part do.
  expect(whole.data.subarray(250 * 900, 252 * 900)).toEqual(part.data.subarray(1 * 900, 3 * 900));
});

const python = process.env.PYTHON ?? '';
test.skipIf(!python || spawnSync(python, ['-c', 'import PIL, numpy; assert PIL.__version__ >= "13"']).status !== 0)(
  'every kind, made by the Pillow of PYTHON',
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'octet-kinds-'));
    try {
      const output = join(directory, 'kinds.json');
      const script = fileURLToPath(new URL('../../../../../scripts/image-kinds.py', import.meta.url));
      const { status, stderr } = spawnSync(python, [script, output, 'all'], { encoding: 'utf8' });
      expect(status, stderr).toBe(0);
      const kinds = recorded(output);
      expect(kinds.length).toBeGreaterThan(80);
      for (const kind of kinds) {
        if (kind.refused)
          await failure('DATASET_UNREADABLE', () =>
            decodeImage(Buffer.from(kind.file, 'base64'), kind.name, { height: 2, width: 2, channels: 3 }),
          );
        else expect(await differences(kind), kind.name).toEqual({ rgb: 0, grey: 0, small: 0, large: 0 });
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
);

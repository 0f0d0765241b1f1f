import { afterAll, beforeAll, expect, test } from 'vitest';
import { Archive } from './archive.js';
import { Bench, failure } from './testing/files.js';
import { type ZipEntry, zip } from './testing/zip.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.create();
});
afterAll(() => bench.remove());

const open = async (bytes: Buffer, limits = bench.limits) => Archive.open(await bench.file(bytes), limits);
const text = Buffer.from('some text that repeats, some text that repeats');

async function streamed(archive: Archive, at = 0): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of archive.stream(archive.entries[at] as (typeof archive.entries)[0])) parts.push(chunk);
  return Buffer.concat(parts);
}

test('reads stored and deflated entries, whole and as a stream', async () => {
  const large = Buffer.alloc(300_000, text);
  const archive = await open(
    zip([
      { name: 'a/stored', data: text },
      { name: 'a/deflated', data: text, deflate: true },
      { name: 'large', data: large, deflate: true },
      { name: 'empty' },
    ]),
  );
  expect(archive.entries.map((entry) => entry.name)).toEqual(['a/stored', 'a/deflated', 'large', 'empty']);
  const contents = [text, text, large, Buffer.alloc(0)];
  for (const [at, expected] of contents.entries()) {
    expect((await streamed(archive, at)).equals(expected)).toBe(true);
    expect((await archive.read(archive.entries[at] as (typeof archive.entries)[0], 1e6)).equals(expected)).toBe(true);
  }
  await failure('DATASET_TOO_LARGE', () => archive.read(archive.entries[2] as (typeof archive.entries)[0], 1000));
  await archive.close();
});

test('leaves litter aside and lists directories', async () => {
  const archive = await open(
    zip([
      { name: 'cat/' },
      { name: '__MACOSX/cat/._1.png', data: text },
      { name: 'cat/.DS_Store', data: text },
      { name: 'cat/Thumbs.db', data: text },
      { name: 'cat/1.png', data: text },
    ]),
  );
  expect(archive.entries.map((entry) => entry.name)).toEqual(['cat/1.png']);
  expect(archive.directories).toEqual(['cat']);
  await archive.close();
});

test.each<[string, ZipEntry[], string]>([
  ['a path that climbs out', [{ name: '../x', data: text }], '../x'],
  ['a path that climbs out within', [{ name: 'a/../../x', data: text }], '../x'],
  ['a path that climbs out with backslashes', [{ name: '..\\x', data: text }], '../x'],
  ['an absolute path', [{ name: '/etc/x', data: text }], '/etc/x'],
  ['a drive', [{ name: 'C:\\x', data: text }], 'C:'],
  ['an encrypted entry', [{ name: 'secret', data: text, encrypted: true, deflate: true }], 'secret'],
  [
    'a name twice',
    [
      { name: 'twice', data: text },
      { name: 'twice', data: text },
    ],
    'twice',
  ],
  ['an unknown method', [{ name: 'lzma', data: text, method: 14 }], 'lzma'],
  ['a bomb', [{ name: 'bomb', data: Buffer.alloc(20_000_000), deflate: true }], '200 times'],
])('refuses %s', async (_, entries, named) => {
  const error = await failure('DATASET_ARCHIVE', () => open(zip(entries)));
  expect(error.message).toContain(named);
});

test('refuses a bomb whose stated size lies, while unpacking', async () => {
  const archive = await open(zip([{ name: 'liar', data: Buffer.alloc(20_000_000), deflate: true, size: 1000 }]));
  let seen = 0;
  await failure('DATASET_ARCHIVE', async () => {
    for await (const chunk of archive.stream(archive.entries[0] as (typeof archive.entries)[0])) seen += chunk.length;
  });
  expect(seen).toBeLessThan(1000);
  await failure('DATASET_ARCHIVE', () => archive.read(archive.entries[0] as (typeof archive.entries)[0], 1e9));
  await archive.close();
});

test('refuses entries that share their bytes once they unpack to too much', async () => {
  const data = Buffer.alloc(1_000_000);
  const entries: ZipEntry[] = Array.from({ length: 50 }, (_, i) => ({
    name: `entry${i}`,
    deflate: true,
    data: Buffer.alloc(0),
    size: data.length,
    offset: 0,
  }));
  await failure('DATASET_ARCHIVE', () => open(zip([{ name: 'first', data, deflate: true }, ...entries])));
});

test('refuses damaged contents', async () => {
  const bytes = zip([{ name: 'x', data: text, crc: 1 }]);
  const archive = await open(bytes);
  expect((await failure('DATASET_ARCHIVE', () => streamed(archive))).message).toContain('checksum');
  await failure('DATASET_ARCHIVE', () => archive.read(archive.entries[0] as (typeof archive.entries)[0], 1e6));
  await archive.close();
  const short = await open(zip([{ name: 'x', data: text, deflate: true, size: text.length + 5 }]));
  await failure('DATASET_ARCHIVE', () => streamed(short));
  await short.close();
  const broken = await open(zip([{ name: 'x', data: text, method: 8, size: 99 }]));
  await failure('DATASET_ARCHIVE', () => streamed(broken));
  await failure('DATASET_ARCHIVE', () => broken.read(broken.entries[0] as (typeof broken.entries)[0], 1e6));
  await broken.close();
  const astray = await open(zip([{ name: 'x', data: text, offset: 12 }]));
  await failure('DATASET_ARCHIVE', () => streamed(astray));
  await astray.close();
});

test('refuses a truncated zip and records that point outside the file', async () => {
  const whole = zip([{ name: 'x', data: text }]);
  await failure('DATASET_ARCHIVE', () => open(whole.subarray(0, -10)));
  const outside = Buffer.from(whole);
  outside.writeUInt32LE(0xfffffff0, whole.length - 6);
  await failure('DATASET_ARCHIVE', () => open(outside));
  // A zip64 locator that points 2^60 bytes into the file.
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(1n << 60n, 8);
  await failure('DATASET_ARCHIVE', () => open(Buffer.concat([whole.subarray(0, -22), locator, whole.subarray(-22)])));
});

test('refuses more entries than the limit', async () => {
  const bytes = zip(Array.from({ length: 11 }, (_, i) => ({ name: `e${i}` })));
  await failure('DATASET_TOO_LARGE', () => open(bytes, { ...bench.limits, archiveEntries: 10 }));
  await (await open(bytes, { ...bench.limits, archiveEntries: 11 })).close();
});

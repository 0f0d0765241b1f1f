import { crc32, deflateRawSync } from 'node:zlib';

/** A zip entry for tests; every field of its directory record can be made to lie. */
export interface ZipEntry {
  name: string;
  data?: Buffer;
  deflate?: boolean;
  /** Bit 0 of the flags. */
  encrypted?: boolean;
  method?: number;
  /** Unpacked size as stated. */
  size?: number;
  crc?: number;
  /** Position of the local header as stated. */
  offset?: number;
}

/** Write a zip as the format's APPNOTE has it (local headers, directory, end record). */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const data = entry.data ?? Buffer.alloc(0);
    const packed = entry.deflate ? deflateRawSync(data) : data;
    const name = Buffer.from(entry.name);
    const local = Buffer.alloc(30);
    const record = Buffer.alloc(46);
    const method = entry.method ?? (entry.deflate ? 8 : 0);
    const flags = 0x800 | (entry.encrypted ? 1 : 0);
    local.writeUInt32LE(0x04034b50, 0);
    record.writeUInt32LE(0x02014b50, 0);
    record.writeUInt16LE(20, 4);
    for (const [header, at] of [
      [local, 4],
      [record, 6],
    ] as const) {
      header.writeUInt16LE(20, at);
      header.writeUInt16LE(flags, at + 2);
      header.writeUInt16LE(method, at + 4);
      header.writeUInt32LE(entry.crc ?? crc32(data), at + 10);
      header.writeUInt32LE(packed.length, at + 14);
      header.writeUInt32LE(entry.size ?? data.length, at + 18);
      header.writeUInt16LE(name.length, at + 22);
    }
    record.writeUInt32LE(entry.offset ?? offset, 42);
    locals.push(local, name, packed);
    directory.push(record, name);
    offset += local.length + name.length + packed.length;
  }
  const records = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(records.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, records, end]);
}

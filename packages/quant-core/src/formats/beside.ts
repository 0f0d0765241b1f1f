import { constants } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import type { ExternalData } from './onnx/tensors.js';

/** A system call takes less than 2 GiB. */
const pieceBytes = 2 ** 30;

/** Files of external data that lie beside a model file, in memory. `locations` are relative and stay below its folder. Throws MODEL_EXTERNAL_DATA, MODEL_TOO_LARGE. */
export async function readBeside(
  path: string,
  locations: readonly string[],
  limits: Limits,
  modelBytes: number,
): Promise<{ external: ExternalData; files: string[]; bytes: number }> {
  const contents = new Map<string, Buffer>();
  const files: string[] = [];
  let bytes = modelBytes;
  for (const location of locations) {
    const place = join(dirname(path), location);
    const file = await open(place, 'r').catch((error: NodeJS.ErrnoException) => {
      throw new OctetError(
        'MODEL_EXTERNAL_DATA',
        error.code === 'ENOENT'
          ? `${basename(path)} stores weights in "${location}", and there is no such file beside it.`
          : `${basename(path)} stores weights in "${location}", which cannot be read: ${error.message}.`,
        { file: location },
        { cause: error, hint: 'Keep the model and its external data in one folder, under the names that the exporter gave them.' },
      );
    });
    try {
      const { size } = await file.stat();
      bytes += size;
      if (bytes > limits.modelBytes || size > constants.MAX_LENGTH)
        throw new OctetError(
          'MODEL_TOO_LARGE',
          `The model and its external data have ${bytes} bytes, and ${limits.modelBytes} are allowed.`,
          {
            file: location,
          },
        );
      contents.set(location, await whole(file, size));
      files.push(place);
    } finally {
      await file.close();
    }
  }
  const external = (location: string): Uint8Array => {
    const content = contents.get(location);
    if (!content) throw new OctetError('MODEL_EXTERNAL_DATA', `The file "${location}" was not read.`, { file: location });
    return content;
  };
  return { external, files, bytes };
}

async function whole(file: FileHandle, size: number): Promise<Buffer> {
  const content = Buffer.allocUnsafeSlow(size);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(content, at, Math.min(pieceBytes, size - at), at);
    if (bytesRead === 0) return content.subarray(0, at);
    at += bytesRead;
  }
  return content;
}

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { posix } from 'node:path';
import { OctetError } from '../errors.js';
import type { Limits } from '../events.js';
import type { Graph } from '../ir/graph.js';
import { readBeside } from './beside.js';
import { buildModel, type OnnxSource, parseOnnx } from './onnx/read.js';

export interface ModelSource extends OnnxSource {
  /** Bytes of the model file and its external data. */
  bytes: number;
  /** SHA-256 of the model file followed by its external data in the order that it names them, wherever they lay: for a file without, the digest of the file. */
  sha256: string;
  /** Files of external data that were read beside the model, in the order that it names them. */
  files: readonly string[];
}

/** Where external data may be found: in the zip that the model is in, or in files beside it as well. */
export type ExternalFiles = 'zip' | 'beside';

/** A protobuf message is smaller than 2 GiB. */
const maxMessage = 2 ** 31 - 1;

/**
 * A model file as a graph: .onnx (with its external data beside it, where `files` allows that), or a zip with one .onnx and the files of its external data. What is in a zip,
 * or beside a model, may be larger than 2 GiB.
 * @throws OctetError with a MODEL_… code for anything that is not a sound model within the limits
 */
export async function readModel(
  path: string,
  limits: Limits,
  files: ExternalFiles = 'zip',
): Promise<{ graph: Graph; source: ModelSource }> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size > limits.modelBytes)
      throw new OctetError('MODEL_TOO_LARGE', `The upload has ${size} bytes, and ${limits.modelBytes} are allowed.`);
    const start = Buffer.alloc(4);
    const { bytesRead } = await file.read(start, 0, 4, 0);
    if (bytesRead === 4 && start.readUInt16LE(0) === 0x4b50 && [0x0403, 0x0605].includes(start.readUInt16LE(2)))
      return await readZip(file, size, limits);
    if (size > maxMessage)
      throw new OctetError(
        'MODEL_TOO_LARGE',
        `The upload has ${size} bytes; an ONNX file without external data holds less than ${maxMessage + 1}.`,
        {},
        {
          hint: 'Save the model with external data (in Python: onnx.save(model, path, save_as_external_data=True)), and send a zip of all its files.',
        },
      );
    const bytes = await file.readFile();
    const parsed = parseOnnx(bytes, limits);
    if (files === 'zip' || parsed.locations.length === 0)
      return { graph: buildModel(parsed, limits), source: { ...parsed.source, bytes: bytes.length, sha256: digest([bytes]), files: [] } };
    const { external, files: beside, bytes: total } = await readBeside(path, parsed.locations, limits, bytes.length);
    const sha256 = digest([bytes, ...parsed.locations.map(external)]);
    return { graph: buildModel(parsed, limits, external), source: { ...parsed.source, bytes: total, sha256, files: beside } };
  } finally {
    await file.close();
  }
}

function digest(contents: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const content of contents) hash.update(content);
  return hash.digest('hex');
}

/** The one file of an archive that is called like `location`, in whatever folder. */
function onlyOfName(names: readonly string[], location: string): string | undefined {
  const found = names.filter((name) => posix.basename(name) === posix.basename(location) && !name.startsWith('__MACOSX/'));
  return found.length === 1 ? found[0] : undefined;
}

async function readZip(file: FileHandle, size: number, limits: Limits): Promise<{ graph: Graph; source: ModelSource }> {
  const { ModelArchive } = await import('./archive.js');
  const archive = await ModelArchive.open(file, size, limits);
  // Systems leave shadow files such as __MACOSX/._model.onnx in archives.
  const models = archive.names.filter(
    (name) => name.toLowerCase().endsWith('.onnx') && !name.split('/').some((part) => part === '__MACOSX' || part.startsWith('.')),
  );
  const [name] = models;
  if (name === undefined)
    throw new OctetError(
      'MODEL_NOT_ONNX',
      `The zip has no .onnx file in it (it has ${archive.names.slice(0, 5).join(', ') || 'no files'}).`,
    );
  if (models.length > 1)
    throw new OctetError(
      'MODEL_ARCHIVE',
      `The zip has ${models.length} .onnx files (${models.slice(0, 5).join(', ')}), and must have one.`,
    );
  const model = await archive.read(name);
  const parsed = parseOnnx(model, limits);
  const files = new Map<string, Buffer>();
  let total = model.length;
  for (const location of parsed.locations) {
    const wanted = posix.join(posix.dirname(name), location);
    const entry = archive.has(wanted) ? wanted : onlyOfName(archive.names, location);
    if (entry === undefined)
      throw new OctetError('MODEL_EXTERNAL_DATA', `The model stores weights in "${location}", and the zip has no file "${wanted}".`, {
        file: location,
      });
    const content = await archive.read(entry);
    files.set(location, content);
    total += content.length;
  }
  const external = (location: string): Uint8Array => {
    const content = files.get(location);
    if (!content) throw new OctetError('MODEL_EXTERNAL_DATA', `The file "${location}" is not in the zip.`, { file: location });
    return content;
  };
  const sha256 = digest([model, ...parsed.locations.map(external)]);
  return { graph: buildModel(parsed, limits, external), source: { ...parsed.source, bytes: total, sha256, files: [] } };
}

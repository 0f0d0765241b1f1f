import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { OctetError } from '../../errors.js';
import { isPacked } from '../../tensor/dtype.js';
import type { Tensor } from '../../tensor/tensor.js';

/** Where a tensor lies in a file of external data. */
export interface ExternalPlace {
  /** Name of the file, beside the model. */
  location: string;
  offset: number;
  length: number;
}

/** Tensors of fewer bytes stay in the model. */
const leastBytes = 64 * 1024;
/** A runtime maps pages; every tensor begins with one. */
const pageBytes = 4096;
/** Left free on the disk. */
const spareBytes = 256 * 2 ** 20;

/**
 * A file of external data that tensors are laid into, each once: whoever asks for the same tensor again gets the same place.
 * It is made when the first tensor comes. Tensors must not change afterwards.
 */
export class WeightFile {
  private readonly places = new WeakMap<Tensor, ExternalPlace>();
  private fd: number | undefined;
  private end = 0;

  constructor(readonly path: string) {}

  /** The place of a tensor; undefined for a small one, which is better kept in the model. Throws MODEL_TOO_LARGE when the disk is full. */
  place(tensor: Tensor): ExternalPlace | undefined {
    if (tensor.bytes < leastBytes || isPacked(tensor.dtype)) return undefined;
    const known = this.places.get(tensor);
    if (known) return known;
    const offset = Math.ceil(this.end / pageBytes) * pageBytes;
    this.write(tensor.raw, offset);
    const place = { location: basename(this.path), offset, length: tensor.bytes };
    this.places.set(tensor, place);
    this.end = offset + tensor.bytes;
    return place;
  }

  private write(bytes: Uint8Array, offset: number): void {
    const directory = dirname(this.path);
    if (this.fd === undefined) {
      mkdirSync(directory, { recursive: true });
      this.fd = openSync(this.path, 'w');
    }
    const { bavail, bsize } = statfsSync(directory);
    const free = bavail * bsize - spareBytes;
    if (bytes.length > free)
      throw new OctetError(
        'MODEL_TOO_LARGE',
        `Weights of ${bytes.length} bytes are to be laid beside the model in ${directory}, where ${Math.max(0, free)} are free.`,
        {},
        { hint: 'Free some space there, or let OCTET_TEMP name a folder on a larger disk.' },
      );
    // At most 1 GiB is written at a time: a system call takes less than 2.
    for (let at = 0; at < bytes.length; ) at += writeSync(this.fd, bytes, at, Math.min(2 ** 30, bytes.length - at), offset + at);
  }

  /** No tensor is added from here on; the file stays. */
  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  remove(): void {
    this.close();
    rmSync(this.path, { force: true });
  }
}

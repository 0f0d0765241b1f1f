/** The most pixels of an image. */
export const mostPixels = 64 * 1024 * 1024;

/** Room for an image of a size that its header states, once that is known to be possible. */
export function checkSize(width: number, height: number): void {
  if (!(width > 0 && height > 0)) throw new Error(`its header states a size of ${width}×${height}`);
  if (width * height > mostPixels) throw new Error(`it has ${width}×${height} pixels, which exceeds the pixel limit of ${mostPixels}`);
}

/** Throw where fewer than `count` bytes are there. */
export function checkLength(data: Uint8Array, count: number): void {
  if (data.length < count) throw new Error(`it is cut off after ${data.length} of at least ${count} bytes`);
}

/** Decoded pixels: bytes [height, width, channels], grey or RGB. */
export interface Picture {
  height: number;
  width: number;
  channels: 1 | 3;
  data: Uint8Array;
}

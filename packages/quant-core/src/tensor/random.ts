/**
 * Seeded generator (SplitMix32 seeding a xoshiro128** state). The only source of randomness in Octet.
 * Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
 */
export class Random {
  private readonly s = new Uint32Array(4);

  constructor(seed: number) {
    let z = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      z = (z + 0x9e3779b9) >>> 0;
      let t = z ^ (z >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      this.s[i] = t ^ (t >>> 15);
    }
  }

  /** A generator for a named purpose, so that two uses of one seed do not share a stream. */
  static for(seed: number, purpose: string): Random {
    let hash = 0x811c9dc5 ^ (seed >>> 0);
    for (let i = 0; i < purpose.length; i++) hash = Math.imul(hash ^ purpose.charCodeAt(i), 0x01000193);
    return new Random(hash);
  }

  /** The next 32-bit unsigned integer. */
  next(): number {
    const s = this.s as unknown as [number, number, number, number];
    const r = Math.imul(s[1], 5);
    const result = Math.imul((r << 7) | (r >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    const u = s[3];
    s[3] = (u << 11) | (u >>> 21);
    return result;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.next() / 0x1_0000_0000;
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    const u = 1 - this.uniform();
    return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Uniform integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** A random permutation of 0 … n-1 (Fisher-Yates). */
  permutation(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = order[i] as number;
      order[i] = order[j] as number;
      order[j] = held;
    }
    return order;
  }
}

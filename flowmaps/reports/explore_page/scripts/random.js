// Random numbers that are the same at every visit.

/** A generator with a seed (mulberry32; normal numbers by Box and Muller). */
export class Random {
  constructor(seed) {
    this.seed = seed >>> 0;
  }

  /** Uniform in [0, 1). */
  uniform() {
    this.seed = (this.seed + 0x6d2b79f5) >>> 0;
    let z = this.seed;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Standard normal. */
  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** n standard normal numbers. */
  normals(n) {
    return Float64Array.from({ length: n }, () => this.normal());
  }

  /** An index, by probabilities. */
  choice(probabilities) {
    let left = this.uniform();
    const found = probabilities.findIndex((p) => (left -= p) < 0);
    return found < 0 ? probabilities.length - 1 : found;
  }
}

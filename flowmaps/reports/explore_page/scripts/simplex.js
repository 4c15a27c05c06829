// One token with K values: its exact law in closed form, and the plane in which three values are a triangle.

import { solve } from "exact";
import { softmax } from "networks";

const EARLIEST = 1e-3; // below this time the posterior is one-hot, and the jump a straight line

/** fm.exact.Categorical with one position, on the linear path. Rows are K numbers. */
export class Categorical {
  constructor(probabilities) {
    Object.assign(this, { logits: probabilities.map(Math.log), size: probabilities.length });
  }

  /** E[x_0 | x_t = x] = softmax(log p + (1 - t) x/t^2), the probabilities of the values. */
  denoise(x, t) {
    const found = x.map((value, i) => this.logits[i % this.size] + ((1 - t) * value) / t ** 2);
    softmax(found, this.size);
    return found;
  }

  /** v = (x - f)/t. */
  velocity(x, t) {
    return this.denoise(x, t).map((f, i) => (x[i] - f) / t);
  }

  jump(x, s, t) {
    const early = Math.max(t, EARLIEST);
    const steps = Math.max(1, Math.ceil(24 * Math.log(s / early))); // even steps of log t
    const found = solve((y, l) => this.velocity(y, Math.exp(l)).map((v) => v * Math.exp(l)), x, Math.log(s), Math.log(early), { steps });
    if (t === early) return found;
    return this.denoise(found, early).map((f, i) => f + (t / early) * (found[i] - f));
  }
}

const [RIGHT, UP] = [[Math.SQRT1_2, -Math.SQRT1_2, 0], [-1, -1, 2].map((value) => value / Math.sqrt(6))];

/** The plane's coordinates of rows of three numbers, seen along (1, 1, 1). */
export function flat(x) {
  const out = new Float64Array((x.length / 3) * 2);
  for (let n = 0, i = 0; n < x.length; n += 3) {
    for (const axis of [RIGHT, UP]) out[i++] = x[n] * axis[0] + x[n + 1] * axis[1] + x[n + 2] * axis[2];
  }
  return out;
}

/** The row over a point of the plane whose numbers add up to `sum`. */
export function lifted([u, w], sum = 0) {
  return Float64Array.from(RIGHT, (value, i) => u * value + w * UP[i] + sum / 3);
}

// Mixtures of Gaussians with closed forms, as flowmaps/exact/mixture.py: sum_k w_k N(mean_k, std_k^2 I).

import { denoised, linear } from "paths";

export class Mixture {
  /** @param {{weights: number[], means: number[][], stds: number[]}} law its components, in D dimensions */
  constructor({ weights, means, stds }, path = linear) {
    Object.assign(this, { weights, means, stds, path });
    this.size = means[0].length;
    this.source = this.target = null;
  }

  /** The law of a class: some of the components. */
  given(components) {
    const total = components.reduce((sum, k) => sum + this.weights[k], 0);
    const law = {
      weights: components.map((k) => this.weights[k] / total),
      means: components.map((k) => this.means[k]),
      stds: components.map((k) => this.stds[k]),
    };
    return new Mixture(law, this.path);
  }

  /** log p(component k, x_t = x) of the point that begins at x[n]. */
  logJoint(x, n, t) {
    const [alpha, sigma] = [this.path.alpha(t), this.path.sigma(t)];
    return this.weights.map((weight, k) => {
      const variance = (alpha * this.stds[k]) ** 2 + sigma ** 2;
      let square = 0;
      for (let i = 0; i < this.size; i++) square += (x[n + i] - alpha * this.means[k][i]) ** 2;
      return Math.log(weight) - (square / variance + this.size * Math.log(2 * Math.PI * variance)) / 2;
    });
  }

  /** log p_t(x) of each point. */
  logProb(x, t = 0) {
    const found = new Float64Array(x.length / this.size);
    for (let n = 0; n < found.length; n++) {
      const joint = this.logJoint(x, n * this.size, t);
      const largest = Math.max(...joint);
      found[n] = largest + Math.log(joint.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    }
    return found;
  }

  /** p(component | x_t = x) of the point that begins at x[n]. */
  posterior(x, n, t) {
    const joint = this.logJoint(x, n, t);
    const largest = Math.max(...joint);
    const raised = joint.map((value) => Math.exp(value - largest));
    const total = raised.reduce((sum, value) => sum + value, 0);
    return raised.map((value) => value / total);
  }

  /** The velocity at points x and time t. */
  velocity(x, t) {
    const { path, size } = this;
    const [alpha, sigma] = [path.alpha(t), path.sigma(t)];
    const [dalpha, dsigma] = [path.alphaSlope(t, t), path.sigmaSlope(t, t)];
    const out = new Float64Array(x.length);
    for (let n = 0; n < x.length; n += size) {
      const p = this.posterior(x, n, t);
      for (let k = 0; k < p.length; k++) {
        const square = this.stds[k] ** 2;
        const growth = (alpha * dalpha * square + sigma * dsigma) / (alpha * alpha * square + sigma * sigma);
        for (let i = 0; i < size; i++) {
          const mean = this.means[k][i];
          out[n + i] += p[k] * (dalpha * mean + growth * (x[n + i] - alpha * mean));
        }
      }
    }
    return out;
  }

  /** E[x_0 | x_t = x]. */
  denoise(x, t) {
    return this.velocity(x, t).map((v, i) => denoised(this.path, x[i], v, t));
  }

  /** The score, grad log p_t(x): -(x - alpha E[x_0 | x]) / sigma^2. */
  score(x, t) {
    const [alpha, sigma] = [this.path.alpha(t), this.path.sigma(t)];
    return this.denoise(x, t).map((f, i) => (alpha * f - x[i]) / sigma ** 2);
  }

  /** The exact flow map, by Runge-Kutta steps of order four on the velocity. */
  jump(x, s, t) {
    return solve((y, time) => this.velocity(y, time), x, s, t);
  }

  /** The average velocity of the exact flow map, (F - x)/(t - s). */
  averageVelocity(x, s, t) {
    if (s === t) return this.velocity(x, t);
    return this.jump(x, s, t).map((y, i) => (y - x[i]) / (t - s));
  }

  /** The mixture p(x) e^{r(x)}/Z for the reward r(x) = -|x - centre|^2/(2 width^2), with logZ = log E e^r. */
  tilted({ centre, width }) {
    const [q, D] = [1 / width ** 2, this.size];
    const wide = this.stds.map((std) => 1 + q * std ** 2);
    const joint = this.weights.map((weight, k) => {
      const square = this.means[k].reduce((sum, mean, i) => sum + (mean - centre[i]) ** 2, 0);
      return Math.log(weight) - (q * square) / (2 * wide[k]) - (D / 2) * Math.log(wide[k]);
    });
    const largest = Math.max(...joint);
    const total = joint.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    const found = new Mixture({
      weights: joint.map((value) => Math.exp(value - largest) / total),
      means: this.means.map((mean, k) => mean.map((value, i) => value + (1 - 1 / wide[k]) * (centre[i] - value))),
      stds: this.stds.map((std, k) => std / Math.sqrt(wide[k])),
    }, this.path);
    return Object.assign(found, { logZ: largest + Math.log(total) });
  }

  /** Draw from the law of x_0 given that x_t is the point that begins at x[n]. */
  drawData(x, n, t, random) {
    const [alpha, sigma] = [this.path.alpha(t), this.path.sigma(t)];
    const p = this.posterior(x, n, t);
    return () => {
      const k = random.choice(p);
      const marginal = (alpha * this.stds[k]) ** 2 + sigma ** 2;
      const gain = (alpha * this.stds[k] ** 2) / marginal;
      const std = (this.stds[k] * sigma) / Math.sqrt(marginal);
      return this.means[k].map((mean, i) => mean + gain * (x[n + i] - alpha * mean) + std * random.normal());
    };
  }

  /** Draw n points of p(x_0 | x_t = x), for one point x. */
  drawsOfData(x, t, n, random) {
    const draw = this.drawData(x, 0, t, random);
    return Float64Array.from(Array.from({ length: n }, draw).flat());
  }

  /** Draw n points. */
  sample(n, random) {
    const out = new Float64Array(n * this.size);
    for (let row = 0; row < n; row++) {
      const k = random.choice(this.weights);
      for (let i = 0; i < this.size; i++) out[row * this.size + i] = this.means[k][i] + this.stds[k] * random.normal();
    }
    return out;
  }
}

/** Follow dx/dt = velocity(x, t) from s to t. The states on the way go to `visit(x, time)`. */
export function solve(velocity, x, s, t, { steps = Math.max(1, Math.ceil(64 * Math.abs(t - s))), visit = null } = {}) {
  let y = Float64Array.from(x);
  const h = (t - s) / steps;
  const along = (slope, by) => y.map((value, i) => value + by * slope[i]);
  visit?.(y, s);
  for (let step = 0; step < steps; step++) {
    const time = s + step * h;
    const a = velocity(y, time);
    const b = velocity(along(a, h / 2), time + h / 2);
    const c = velocity(along(b, h / 2), time + h / 2);
    const d = velocity(along(c, h), time + h);
    y = y.map((value, i) => value + (h / 6) * (a[i] + 2 * b[i] + 2 * c[i] + d[i]));
    visit?.(y, time + h);
  }
  return y;
}

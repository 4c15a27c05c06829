// Steering towards r(x) = -|x - centre|^2/(2 width^2): values of states, and samplers that follow them. As
// flowmaps/steering. All of it are generators, which pause often, so that a page can do them in pieces.

import { times } from "walks";

/** The reward of points in the plane, one number each. */
export function rewardOf({ centre, width }) {
  return (x) => {
    const found = new Float64Array(x.length / 2);
    for (let n = 0; n < found.length; n++) {
      found[n] = -((x[2 * n] - centre[0]) ** 2 + (x[2 * n + 1] - centre[1]) ** 2) / (2 * width ** 2);
    }
    return found;
  };
}

/** The value and its gradient by central differences. */
function* differences(value, x, t, h = 1e-4) {
  const slope = new Float64Array(x.length);
  for (const i of [0, 1]) {
    const moved = [h, -h].map((by) => x.map((each, n) => (n % 2 === i ? each + by : each)));
    const high = value(moved[0], t);
    yield;
    const low = value(moved[1], t);
    yield;
    for (let n = 0; n < high.length; n++) slope[2 * n + i] = (high[n] - low[n]) / (2 * h);
  }
  return { value: value(x, t), slope };
}

/** V = r(f(x, t)): fm.look.denoise. */
export const byDenoiser = (law, reward) => {
  const value = (x, t) => reward(law.denoise(x, t));
  return (x, t) => differences(value, x, t);
};

/** V = alpha(t) r(F(x, t, 0)): fm.look.jump(). Without alpha the gradient would be multiplied with b(t) = infinity at t = 1. */
export const byJump = (flow, reward) => {
  const value = (x, t) => reward(flow.jump(x, t, 0)).map((r) => flow.path.alpha(t) * r);
  return (x, t) => differences(value, x, t);
};

/** V = log mean e^{r(X_i)} over draws X_i of x_0 given x_t, with the gradient fm.steering.free. */
export const byDraws = (law, reward, random, draws = 32) =>
  function* (x, t) {
    const [value, slope] = [new Float64Array(x.length / 2), new Float64Array(x.length)];
    const scale = law.path.alpha(t) / law.path.sigma(t) ** 2;
    for (let n = 0; n < value.length; n++) {
      const X = Float64Array.from(Array.from({ length: draws }, law.drawData(x, 2 * n, t, random)).flat());
      const r = reward(X);
      const [weights, logSum] = softmax(r);
      value[n] = logSum - Math.log(draws);
      weights.forEach((w, i) => {
        for (const j of [0, 1]) slope[2 * n + j] += scale * (w - 1 / draws) * X[2 * i + j];
      });
      if (n % 40 === 39) yield;
    }
    return { value, slope };
  };

/** The exact value, log p*_t(x) - log p_t(x) + log Z, and its gradient. */
export const byExact = (law, tilted) =>
  function* (x, t) {
    const [own, all] = [tilted.logProb(x, t), law.logProb(x, t)];
    yield;
    const [high, low] = [tilted.score(x, t), law.score(x, t)];
    return { value: own.map((value, n) => value - all[n] + tilted.logZ), slope: high.map((value, i) => value - low[i]) };
  };

/** The softmax of numbers, and the logarithm of the sum of their exponentials. */
export function softmax(values) {
  const largest = Math.max(...values);
  const raised = values.map((value) => Math.exp(value - largest));
  const sum = raised.reduce((total, value) => total + value, 0);
  return [raised.map((value) => value / sum), largest + Math.log(sum)];
}

/** Euler steps of the steered velocity v - b grad V: fm.steering.tilt. Returns [{t, x, weights}]. */
export function* gradientAlone(law, value, noise, steps, limit = 25) {
  const count = noise.length / 2;
  const weights = new Float64Array(count).fill(1 / count);
  const states = [{ t: 1, x: noise, weights }];
  for (const [i, t] of times(steps).slice(1).entries()) {
    const { t: s, x } = states[i];
    const b = s / Math.max(1 - s, s / limit);
    const { slope } = yield* value(x, s);
    const v = law.velocity(x, s);
    states.push({ t, x: x.map((each, j) => each + (t - s) * (v[j] - b * slope[j])), weights });
  }
  return { states };
}

/** Weighted particles with the ancestral kernel: fm.steering.particles. Returns [{t, x, weights, logWeights}] and logZ. */
export function* particles(law, reward, value, noise, steps, random, push = 1, resample = 0.5) {
  const count = noise.length / 2;
  const grid = times(steps);
  let x = noise;
  let seen = yield* value(x, 1);
  let log = Float64Array.from(seen.value);
  let logZ = 0;
  const states = [];
  const keep = (t) => {
    const [weights] = softmax(log);
    states.push({ t, x, weights, logWeights: log, effective: 1 / weights.reduce((sum, w) => sum + w * w, 0) / count });
    return states.at(-1);
  };
  for (const [i, t] of grid.slice(1).entries()) {
    const s = grid[i];
    if (keep(s).effective < resample) {
      const [weights, logSum] = softmax(log);
      const rows = systematic(weights, random);
      x = Float64Array.from(rows.flatMap((n) => [x[2 * n], x[2 * n + 1]]));
      seen = { value: Float64Array.from(rows, (n) => seen.value[n]), slope: Float64Array.from(rows.flatMap((n) => [seen.slope[2 * n], seen.slope[2 * n + 1]])) };
      logZ += logSum - Math.log(count);
      log = new Float64Array(count);
    }
    const { mean, std } = ancestralMoments(law, x, s, t);
    if (t === 0) {
      x = mean;
      log = reward(x).map((r, n) => log[n] + r - seen.value[n]);
    } else {
      const moved = pushed(mean, std, seen.slope, random.normals(2 * count), push);
      const after = yield* value(moved.x, t);
      log = log.map((each, n) => each + after.value[n] - seen.value[n] + moved.cost[n]);
      [x, seen] = [moved.x, after];
    }
    yield;
  }
  keep(0);
  return { states, logZ: logZ + softmax(log)[1] - Math.log(count) };
}

/** Mean and standard deviation of the ancestral step (fm.steps.ancestral.moments). */
export function ancestralMoments(law, x, s, t) {
  const { path } = law;
  const r = (path.sigma(t) * path.alpha(s)) / (path.sigma(s) * path.alpha(t));
  const mean = law.denoise(x, s).map((data, i) => path.alpha(t) * data + (path.sigma(t) * r * (x[i] - path.alpha(s) * data)) / path.sigma(s));
  return { mean, std: path.sigma(t) * Math.sqrt(Math.max(0, 1 - r * r)) };
}

/** x' = mean + u + std z with the push u = std^2 grad V, of at most `push` std; cost = -|x' - mean|^2/(2 std^2) + |z|^2/2. */
export function pushed(mean, std, slope, z, push) {
  const [x, cost] = [new Float64Array(mean.length), new Float64Array(mean.length / 2)];
  for (let n = 0; n < cost.length; n++) {
    const size = std * Math.hypot(slope[2 * n], slope[2 * n + 1]);
    for (const i of [2 * n, 2 * n + 1]) {
      const u = (std * slope[i] * push) / Math.max(push, size);
      x[i] = mean[i] + std * (u + z[i]);
      cost[n] -= u * (z[i] + u / 2);
    }
  }
  return { x, cost };
}

/** The rows of systematic resampling. */
export function systematic(weights, random) {
  const count = weights.length;
  const start = random.uniform();
  const rows = [];
  let [n, end] = [0, weights[0]];
  for (let i = 0; i < count; i++) {
    while ((i + start) / count >= end && n < count - 1) end += weights[++n];
    rows.push(n);
  }
  return rows;
}

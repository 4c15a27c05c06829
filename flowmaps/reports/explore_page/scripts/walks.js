// Samplers: a list of times and a step, as flowmaps/sampling and flowmaps/steps. `flow` is a FlowMap or a Mixture.

/** steps + 1 times from s down to t, evenly. */
export function times(steps, s = 1, t = 0) {
  return Array.from({ length: steps + 1 }, (_, i) => s + ((t - s) * i) / steps);
}

/** x after the step from s to t. */
export const euler = (flow, x, s, t, label) => flow.velocity(x, s, label).map((v, i) => x[i] + (t - s) * v);

export const jump = (flow, x, s, t, label) => flow.jump(x, s, t, label);

/** Jump to the data and add noise to t: the sampler of maps that know t = 0 alone. */
export const restart = (random) => (flow, x, s, t, label) => {
  const data = flow.jump(x, s, 0, label);
  return t === 0 ? data : data.map((value) => flow.path.alpha(t) * value + flow.path.sigma(t) * random.normal());
};

/**
 * The stochastic step of denoising diffusion models (fm.steps.sde(1), ancestral sampling):
 * x_t = alpha_t x_0 + sigma_t (r eps + sqrt(1 - r^2) z), with x_0 = E[x_0 | x_s] and eps = (x_s - alpha_s x_0)/sigma_s.
 */
export const ancestral = (random) => (flow, x, s, t, label) => {
  const { path } = flow;
  const r = (path.sigma(t) * path.alpha(s)) / (path.sigma(s) * path.alpha(t));
  return flow.denoise(x, s, label).map((data, i) => {
    const noise = (x[i] - path.alpha(s) * data) / path.sigma(s);
    return path.alpha(t) * data + path.sigma(t) * (r * noise + Math.sqrt(Math.max(0, 1 - r * r)) * random.normal());
  });
};

/** All states of a sampler, the start first. */
export function walk(flow, x, grid, step, label = null) {
  const states = [x];
  for (let i = 1; i < grid.length; i++) states.push(step(flow, states[i - 1], grid[i - 1], grid[i], label));
  return states;
}

/** A square range of the plane that holds most points of all clouds and the noise. */
export function extent(clouds) {
  const size = Math.max(2.6, ...clouds.flatMap((points) => points.map(Math.abs)));
  return { x: [-1.05 * size, 1.05 * size], y: [-1.05 * size, 1.05 * size] };
}

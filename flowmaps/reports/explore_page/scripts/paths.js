// Paths between data (t = 0) and noise (t = 1): x_t = alpha(t) x_0 + sigma(t) eps. As flowmaps/path/closed.py.

const quarter = Math.PI / 2;
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

export const linear = {
  alpha: (t) => 1 - t,
  sigma: (t) => t,
  alphaSlope: () => -1, // divided differences; the derivative at s = t
  sigmaSlope: () => 1,
};

export const trigonometric = {
  alpha: (t) => Math.cos(quarter * t),
  sigma: (t) => Math.sin(quarter * t),
  alphaSlope: (s, t) => -quarter * Math.sin((quarter * (s + t)) / 2) * sinc((t - s) / 4),
  sigmaSlope: (s, t) => quarter * Math.cos((quarter * (s + t)) / 2) * sinc((t - s) / 4),
};

/** The path with this name in a record of a flow map. On the sphere rows have no alpha and sigma. */
export const named = { linear, trigonometric, sphere: linear };

/** E[x_0 | x_t = x] from the velocity v at (x, t), for one coordinate. */
export function denoised(path, x, v, t) {
  const [a, b] = [path.alpha(t), path.sigma(t)];
  const [da, db] = [path.alphaSlope(t, t), path.sigmaSlope(t, t)];
  return (db * x - b * v) / (a * db - da * b);
}

// The consistency rules, as flowmaps/consistency.py, on the jump F of a FlowMap or a Mixture. The residual is in units of
// velocity and is zero for the true flow map. Derivatives are central differences in double precision.

const H = 1e-4;

/** a + by b. */
export const add = (a, b, by = 1) => a.map((value, i) => value + by * b[i]);
const difference = (after, before) => after.map((value, i) => (value - before[i]) / (2 * H));

/** One jump is two jumps:  F(x, s, t) = F(F(x, s, m), m, t).  The residual is their distance, over t - s. */
export function compositional(flow, x, s, t, m) {
  const middle = flow.jump(x, s, m);
  const two = flow.jump(middle, m, t);
  const end = flow.jump(x, s, t);
  return { end, middle, two, residual: end.map((value, i) => (s === t ? 0 : (value - two[i]) / (t - s))) };
}

/** The target moves:  dF/dt = v(F, t),  with the velocity of `teacher`. */
export function lagrangian(flow, teacher, x, s, t) {
  const end = flow.jump(x, s, t);
  const motion = difference(flow.jump(x, s, t + H), flow.jump(x, s, t - H));
  const velocity = teacher.velocity(end, t);
  return { end, motion, velocity, residual: add(motion, velocity, -1) };
}

/** The source moves:  dF/ds + grad_x F . v(x, s) = 0. */
export function eulerian(flow, teacher, x, s, t) {
  const end = flow.jump(x, s, t);
  const velocity = teacher.velocity(x, s);
  const clock = difference(flow.jump(x, s + H, t), flow.jump(x, s - H, t));
  const water = difference(flow.jump(add(x, velocity, H), s, t), flow.jump(add(x, velocity, -H), s, t));
  return { end, velocity, clock, water, residual: clock.map((value, i) => -value - water[i]) };
}

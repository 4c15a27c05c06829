// Chapter 7: a reward that a person drags, look-aheads, steered samples with and without weights, and the exact law.

import { choice, legend, player, readout, slider } from "controls";
import { Mixture } from "exact";
import { FlowMap } from "networks";
import { Plane, colour, element } from "plane";
import { Random } from "random";
import { byDenoiser, byDraws, byExact, byJump, gradientAlone, particles, rewardOf } from "steering";

const [COUNT, STEPS, BUDGET] = [150, 40, 4]; // particles, steps, milliseconds of work in one frame
const LOOKS = [["denoiser", "denoiser"], ["jump", "jump"], ["draws", "posterior draws"], ["exact", "exact value"]];
const METHODS = [["gradient", "gradient alone"], ["particles", "weighted particles"]];

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const flow = new FlowMap(data.map.flow);
  const noise = new Random(8).normals(2 * COUNT);
  const extra = new Random(9).normals(2 * 500); // noise of the dots of the exact law
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const plane = new Plane(pictures, { x: [-3, 3], y: [-2.4, 2.4], ratio: 0.8, label: "Steered samples on the exact law that they should have, with the reward as a dashed circle" });
  const bars = new Plane(pictures, { x: [0.4, 6.6], y: [-0.26, 1.25], ratio: 0.26, label: "Share of the samples in each group, beside the exact share" });
  const table = element("table", { class: "comparison" });
  pictures.append(table);
  const centre = plane.handle({ at: [1.3, 0.2], name: "centre of the reward", colour: "third", onMove: restart });

  const width = slider(controls, { name: "width of the reward", min: 0.15, max: 1.2, step: 0.05, value: 0.5, onInput: restart });
  const look = choice(controls, { name: "Look-ahead", options: LOOKS, value: "denoiser", onInput: restart });
  const method = choice(controls, { name: "Samples", options: METHODS, value: "gradient", onInput: restart });
  const time = slider(controls, { name: "time t, from noise to data", min: 0, max: STEPS, step: 1, value: STEPS, format: (k) => (1 - k / STEPS).toFixed(2), onInput: redraw });
  player(controls, { control: time, seconds: 4 });
  legend(controls, [
    ["third", "dash", "reward: circle of its width; drag its centre"],
    ["muted", "line", "thin rings: the six groups of the data"],
    ["data", "dot", "exact tilted law (grey dots and bars)"],
    ["first", "dot", "steered samples; size is weight"],
  ]);
  const say = readout(controls);
  let [tilted, exactDots, found, jobs, frame, shown] = [null, null, {}, [], null, null];

  const key = () => `${look.value} ${method.value}`;

  /** The work of one look-ahead and one method. */
  function job(which, how) {
    const reward = rewardOf(tilted.reward);
    const random = new Random(5);
    const value = {
      denoiser: () => byDenoiser(law, reward), jump: () => byJump(flow, reward),
      draws: () => byDraws(law, reward, random), exact: () => byExact(law, tilted),
    }[which]();
    const run = how === "gradient" ? gradientAlone(law, value, noise, STEPS) : particles(law, reward, value, noise, STEPS, random);
    return { name: `${which} ${how}`, run };
  }

  /** Begin again with another reward: the present choice first, then the rest of the table. */
  function restart() {
    const reward = { centre: [...centre.at], width: width.value };
    if (!tilted || String([tilted.reward.centre, tilted.reward.width]) !== String([reward.centre, reward.width])) {
      tilted = Object.assign(law.tilted(reward), { reward });
      exactDots = tilted.sample(extra.length / 2, new Random(2));
      found = {};
    }
    const all = METHODS.flatMap(([how]) => LOOKS.map(([which]) => [which, how])).filter(([which, how]) => !found[`${which} ${how}`]);
    all.sort((a, b) => (a.join(" ") === key() ? -1 : 0) - (b.join(" ") === key() ? -1 : 0));
    jobs = all.map(([which, how]) => () => job(which, how));
    jobs.current = null;
    frame ??= requestAnimationFrame(work);
    redraw();
  }

  /** Do some of the work, while a person can see it. */
  function work() {
    const { top, bottom } = root.getBoundingClientRect();
    if (bottom < 0 || top > innerHeight) {
      frame = setTimeout(work, 300);
      return;
    }
    frame = null;
    const end = performance.now() + BUDGET;
    while (performance.now() < end && (jobs.current || jobs.length)) {
      jobs.current ??= jobs.shift()();
      const { done, value } = jobs.current.run.next();
      if (!done) continue;
      found[jobs.current.name] = { ...value, ...measured(value.states) };
      jobs.current = null;
      redraw();
    }
    if (jobs.current || jobs.length) frame = requestAnimationFrame(work);
  }

  /** Share of the samples in each group, its distance from the exact share, the spread, and the least effective share. */
  function measured(states) {
    const { x, weights } = states.at(-1);
    const mass = law.weights.map(() => 0);
    const moments = [0, 0, 0];
    weights.forEach((w, n) => {
      law.posterior(x, 2 * n, 0).forEach((p, k) => (mass[k] += w * p));
      [x[2 * n], x[2 * n + 1], x[2 * n] ** 2 + x[2 * n + 1] ** 2].forEach((value, i) => (moments[i] += w * value));
    });
    const off = mass.reduce((sum, m, k) => sum + Math.abs(m - tilted.weights[k]), 0) / 2;
    const spread = Math.sqrt(Math.max(0, moments[2] - moments[0] ** 2 - moments[1] ** 2));
    return { mass, off, spread, effective: Math.min(...states.map((state) => state.effective ?? 1)) };
  }

  /** Root mean square distance from the mean under the exact law. */
  function exactSpread() {
    const mean = [0, 1].map((i) => tilted.weights.reduce((sum, w, k) => sum + w * tilted.means[k][i], 0));
    const square = tilted.weights.reduce((sum, w, k) => sum + w * (tilted.means[k][0] ** 2 + tilted.means[k][1] ** 2 + 2 * tilted.stds[k] ** 2), 0);
    return Math.sqrt(square - mean[0] ** 2 - mean[1] ** 2);
  }

  function redraw() {
    if (!tilted) return;
    shown = found[key()] ?? shown;
    plane.redraw();
    bars.redraw();
    const number = (value) => (value === undefined ? "…" : value.toFixed(2));
    const cells = LOOKS.map(([which, name]) => {
      const [alone, weighted] = METHODS.map(([how]) => found[`${which} ${how}`] ?? {});
      const row = [alone.off, alone.spread, weighted.off, weighted.effective].map((value) => element("td", {}, number(value)));
      return element("tr", which === look.value ? { "aria-current": "true" } : {}, element("th", { scope: "row" }, name), ...row);
    });
    const exact = exactSpread().toFixed(2);
    const head = ["look-ahead", "gradient: wrong group", `spread (exact ${exact})`, "particles: wrong group", "least effective"];
    table.replaceChildren(element("tr", {}, ...head.map((words) => element("th", { scope: "col" }, words))), ...cells);
    const now = found[key()];
    say(now ? `${method.value === "gradient" ? "Following the gradient" : "Weighted particles"}, look-ahead by the ${look.value === "draws" ? "posterior draws" : look.value}: ${Math.round(100 * now.off)}% of the samples are in wrong groups, and the spread is ${now.spread.toFixed(2)} where ${exact} is exact.` : "Sampling …");
  }

  plane.onDraw(() => {
    const t = 1 - time.value / STEPS;
    plane.dots(exactDots.map((value, i) => (1 - t) * value + t * extra[i]), { colour: "data", size: 1.8, alpha: 0.5 });
    const circle = Array.from({ length: 61 }, (_, i) => [0, 1].map((axis) => centre.at[axis] + width.value * Math[axis ? "sin" : "cos"]((i * Math.PI) / 30)));
    plane.line(circle, { colour: "third", width: 2.5, dash: [6, 5] });
    law.means.forEach((mean, k) => {
      plane.ring(mean, { colour: "muted", size: (2 * law.stds[k] * plane.width) / 6, width: 1 });
      plane.text(mean.map((value) => 1.5 * value), String(k + 1), { colour: "muted", shift: [0, 5], align: "center", size: 16 });
    });
    if (!shown) return;
    const { x, weights } = shown.states[time.value];
    plane.context.globalAlpha = 0.75;
    weights.forEach((w, n) => {
      const size = 3 * Math.sqrt(Math.min(w * COUNT, 16));
      if (size > 0.5) plane.ring([x[2 * n], x[2 * n + 1]], { colour: "first", size, fill: true });
    });
    plane.context.globalAlpha = 1;
    plane.text(centre.at, "reward", { colour: "third", shift: [16, -12] });
  });
  bars.onDraw(() => {
    const bar = (k, shift, height, tone, alpha) => {
      const [left, top] = bars.pixel([k + 1 + shift, height]);
      const [right, bottom] = bars.pixel([k + 1 + shift + 0.3, 0]);
      bars.context.fillStyle = tone;
      bars.context.globalAlpha = alpha;
      bars.context.fillRect(left, top, right - left, bottom - top);
      bars.context.globalAlpha = 1;
    };
    law.weights.forEach((_, k) => {
      bar(k, -0.32, tilted.weights[k], colour("data"), 1);
      if (shown) bar(k, 0.02, shown.mass[k], colour("first"), 1);
      bars.text([k + 1, 0], `${k + 1}`, { colour: "muted", shift: [0, 13], align: "center" });
    });
    bars.text([0.5, 1.06], "share in each group at t = 0: exact left, steered right", { colour: "muted", shift: [0, 0], size: bars.width < 500 ? 11 : 14 });
  });
  restart();
  return {
    state: () => ({
      centre: [...centre.at], width: width.value, time: time.value, ready: Object.keys(found),
      tilted: { weights: tilted.weights, means: tilted.means, stds: tilted.stds, logZ: tilted.logZ, spread: exactSpread() },
      found: Object.fromEntries(Object.entries(found).map(([name, { states, ...numbers }]) => [name, { ...numbers, x: [...states.at(-1).x], weights: [...states.at(-1).weights] }])),
    }),
  };
}

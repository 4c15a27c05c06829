// Chapter 4: conditional velocities and their mean, at x and at the end of a jump; gradients by them; marks of stop-gradients.

import { add } from "consistency";
import { button, legend, menu, readout, slider } from "controls";
import { Mixture, solve } from "exact";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";

const H = 1e-4;
const MOTION = -0.6; // velocities at F are drawn as the motion while t falls by this much
const FAN = 60; // pairs that are drawn
const PARTS = {
  value: "V at the times s and t", time: "its slope in time", space: "its slope in space", diagonal: "other values of V",
  teacher: "input of the teacher",
};

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const named = new Map(data.gradients.methods.map((method) => [method.name, method]));
  const flow = new FlowMap(data.landscape.methods.find(({ name }) => name === "meanflow").snapshots[2].flow);
  const dots = law.sample(500, new Random(1));
  const pictures = element("div", { class: "pictures" });
  const pair = element("div", { class: "pictures pair" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  pictures.append(pair);
  const range = { x: [-2.6, 2.6], y: [-2.6, 2.6] };
  const at = titled(pair, "Eulerian: needs v at x", { ...range, label: "Conditional velocities of pairs at x, and their mean" });
  const ahead = titled(pair, "Lagrangian: needs v at F", { ...range, label: "The same velocities at the end of the jump, beside the velocity there" });
  const line = titled(pictures, "Gradient of MeanFlow's loss in one weight", {
    x: [-16, 16], y: [-0.6, 1.8], ratio: 0.24, xName: "gradient", label: "Gradients by pairs, their mean, and the gradient by the marginal velocity, with and without the derivative",
  });
  const point = at.handle({ at: [-1.2, -1.0], name: "the point x at time s", colour: "text", onMove: update });

  const source = slider(controls, { name: "s, the time of the point", min: 0.1, max: 1, value: 0.7, onInput: update });
  const target = slider(controls, { name: "t, where to jump", min: 0, max: 1, value: 0.1, onInput: update });
  const power = slider(controls, { name: "pairs (x_0, eps) through x", min: 0, max: 11, step: 1, value: 6, format: (k) => `${2 ** k}`, onInput: update });
  let seed = 1;
  button(controls, { name: "Draw other pairs", onPress: () => { seed += 1; update(); } });
  legend(controls, [
    ["third", "line", "eps − x_0 of a pair"], ["second", "line", "mean of the pairs"], ["first", "dash", "marginal velocity, exact"],
    ["data", "line", "true path"],
  ]);
  const say = readout(controls);
  const said = readout(controls);
  const method = menu(controls, {
    name: "Where gradients go in the loss of", value: "meanflow", onInput: mark,
    options: [...named.values()].map(({ name, rule }) => [name, name, rule]),
  });
  const formula = element("div", { class: "formula" });
  controls.append(formula);
  let now = null;

  function update() {
    const [s, t, x, n] = [source.value, target.value, Float64Array.from(point.at), 2 ** power.value];
    const x0 = law.drawsOfData(x, s, n, new Random(seed));
    const u = x0.map((value, i) => (x[i % 2] - value) / s); // eps - x_0, with x = (1 - s) x_0 + s eps
    const path = [];
    const end = solve((y, time) => law.velocity(y, time), x, s, t, { visit: (y) => path.push([y[0], y[1]]) });
    const [v, vEnd] = [law.velocity(x, s), law.velocity(end, t)];
    const mean = average(u);
    const gradients = inOneWeight(flow, x, s, t);
    const [short, full] = ["value", "both"].map((kind) => ({ marginal: gradients(v)[kind], rows: rowsOf(u).map((each) => gradients(each)[kind]) }));
    now = { x, s, t, x0, u, path, end, v, vEnd, mean, short, full };
    say(`Mean of ${n} pairs at x: (${words(mean)}), ± ${(2 * Math.max(...errors(u))).toFixed(2)}; marginal velocity at x: (${words(v)}); at F: (${words(vEnd)}).`);
    said(`Gradient through the value alone: ${amount(short)}. Through the derivative too: ${amount(full)}.`);
    const widest = 1.25 * Math.max(6, ...[short, full].flatMap(({ marginal, rows }) => [Math.abs(marginal), Math.abs(average1(rows)) + 2 * error1(rows)]));
    line.x = [-widest, widest];
    for (const plane of [at, ahead, line]) plane.redraw();
  }

  at.onDraw(() => {
    at.dots(dots, { colour: "data", size: 1.5, alpha: 0.3 });
    for (const each of rowsOf(now.x0).slice(0, FAN)) fan(at, now.x, each);
    at.arrow(now.x, add(now.x, now.v, -now.s), { colour: "first", width: 7, dash: [9, 6] });
    at.arrow(now.x, add(now.x, now.mean, -now.s), { colour: "second", width: 3 });
    at.text(now.x, "x", { shift: [14, -12] });
  });

  ahead.onDraw(() => {
    const { x, end, u, vEnd, mean, s, t } = now;
    ahead.dots(dots, { colour: "data", size: 1.5, alpha: 0.3 });
    ahead.line(now.path, { colour: "data", width: 4 });
    for (const each of rowsOf(u).slice(0, FAN)) fan(ahead, end, add(end, each, MOTION));
    ahead.arrow(end, add(end, vEnd, MOTION), { colour: "first", width: 7, dash: [9, 6] });
    ahead.arrow(end, add(end, mean, MOTION), { colour: "second", width: 3 });
    ahead.line([x, add(x, mean, t - s)], { colour: "second", width: 2, dash: [3, 4] });
    ahead.ring(add(x, mean, t - s), { colour: "second", size: 6 });
    ahead.text(add(x, mean, t - s), "learned instead", { colour: "second", shift: [10, -10] });
    ahead.ring(x, { colour: "text", size: 5, fill: true });
    ahead.text(x, "x", { shift: [10, -8] });
    ahead.text(end, "F", { shift: [8, -8] });
  });

  line.onDraw(() => {
    line.line([[0, -0.6], [0, 1.8]], { colour: "muted", width: 1 });
    line.text([0, -0.6], "0", { colour: "muted", shift: [5, -6], size: 13 });
    [[now.short, 1, "through the value alone (stop-gradient)"], [now.full, 0, "through the derivative too"]].forEach(([{ marginal, rows }, y, name]) => {
      line.dots(rows.slice(0, 300).flatMap((value, i) => [value, y - 0.15 + 0.3 * ((i * 0.618) % 1)]), { colour: "third", size: 1.6 });
      const [mean, error] = [average1(rows), error1(rows)];
      line.line([[marginal, y - 0.35], [marginal, y + 0.35]], { colour: "first", width: 5, dash: [7, 4] });
      line.line([[mean - 2 * error, y], [mean + 2 * error, y]], { colour: "second", width: 3 });
      line.ring([mean, y], { colour: "second", size: 6, fill: true });
      line.text([line.x[0], y + 0.45], name, { shift: [8, 4], size: 13 });
    });
  });

  /** The loss of a method, with its stopped parts shaded, and the parts that carry gradient. */
  function mark() {
    const { equation, gradient, gradient_of: carried, reference } = named.get(method.value);
    formula.replaceChildren(
      element("p", {}, ...shaded(equation)),
      element("ul", { class: "parts" }, ...data.gradients.parts.map((part) =>
        element("li", carried.includes(part) ? { class: "carries" } : {}, `${carried.includes(part) ? "✓" : "✕"} ${PARTS[part]}`))),
      element("p", { class: "note" }, `Gradient flows through ${gradient}. Shaded: stopped, sg[...]. ${reference}`),
    );
  }

  update();
  mark();
  return {
    state: () => ({
      x: [...now.x], s: now.s, t: now.t, u: [...now.u], v: [...now.v], end: [...now.end], vEnd: [...now.vEnd], mean: [...now.mean],
      error: errors(now.u), value: summary(now.short), both: summary(now.full), method: method.value,
    }),
  };
}

/**
 * MeanFlow's gradient in one weight: a factor 1 + w on the network's output, at w = 0. The residual with a velocity u is
 * R = V - u - (t - s)(dV/ds + grad_x V . u). Through the value alone dR/dw is V; through the derivative too it is R + u.
 */
function inOneWeight(flow, x, s, t) {
  const V = flow.averageVelocity(x, s, t);
  const slope = (tangent, time) => {
    const [after, before] = [H, -H].map((by) => flow.averageVelocity(add(x, tangent, by), s + time * by, t));
    return after.map((value, i) => (value - before[i]) / (2 * H));
  };
  const [inTime, first, second] = [slope([0, 0], 1), slope([1, 0], 0), slope([0, 1], 0)];
  return (u) => {
    const R = V.map((value, i) => value - u[i] - (t - s) * (inTime[i] + first[i] * u[0] + second[i] * u[1]));
    return { value: 2 * (R[0] * V[0] + R[1] * V[1]), both: 2 * (R[0] * (R[0] + u[0]) + R[1] * (R[1] + u[1])) };
  };
}

function titled(parent, title, options) {
  const box = element("div", {}, element("h3", {}, title));
  parent.append(box);
  return new Plane(box, options);
}

function fan(plane, from, to) {
  plane.line([from, to], { colour: "third", width: 1, alpha: 0.4 });
  plane.ring(to, { colour: "third", size: 2.5, fill: true });
}

const rowsOf = (flat) => Array.from({ length: flat.length / 2 }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);
const column = (flat, i) => flat.filter((_, n) => n % 2 === i);
const average1 = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const average = (flat) => [0, 1].map((i) => average1(column(flat, i)));
const words = (values) => [...values].map((value) => value.toFixed(2)).join(", ");
const amount = ({ marginal, rows }) => `${average1(rows).toFixed(2)} ± ${(2 * error1(rows)).toFixed(2)} by pairs, ${marginal.toFixed(2)} by the marginal velocity`;
const summary = ({ marginal, rows }) => ({ marginal, mean: average1(rows), error: error1(rows) });

/** Standard error of the mean; of a single number it is not known, and 0 here. */
function error1(values) {
  const mean = average1(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1) / values.length);
}
const errors = (flat) => [0, 1].map((i) => error1(column(flat, i)));

/** The text of a loss; what stands in sg[...] is shaded. */
function shaded(text) {
  const start = text.indexOf("sg[");
  if (start < 0) return [text];
  let [end, depth] = [start + 3, 1];
  for (; end < text.length && depth; end++) depth += { "[": 1, "]": -1 }[text[end]] ?? 0;
  return [text.slice(0, start), element("span", { class: "stopped" }, text.slice(start, end)), ...shaded(text.slice(end))];
}

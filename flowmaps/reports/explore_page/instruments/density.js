// Chapter 8: a point of the data follows its path to the noise; the divergence on the way is the change of its log density.

import { choice, legend, player, readout, slider } from "controls";
import { Mixture } from "exact";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";

const [QUICK, STEPS] = [4, 48]; // steps of order four while the point moves, and when it rests
const STEP = 1e-3; // of the central differences
const DROP = 0.12; // radius at t = 0 of a drop that the path carries along

/** The velocity at x and its divergence by central differences, one call for five points. */
function rates(flow, x, t) {
  const [a, b] = x;
  const points = Float64Array.of(a, b, a + STEP, b, a - STEP, b, a, b + STEP, a, b - STEP);
  const v = flow.velocity(points, t);
  return [v[0], v[1], (v[2] - v[4] + v[7] - v[9]) / (2 * STEP)];
}

/** States [x, y, integral of the divergence from 0 to t] along the path from x at t = 0 to the noise. */
function followed(flow, x, steps) {
  const states = [[...x, 0]];
  const h = 1 / steps;
  for (let i = 0; i < steps; i++) {
    const [y, t] = [states[i], i * h];
    const along = (rate, by) => y.map((value, k) => value + by * rate[k]);
    const a = rates(flow, y, t);
    const b = rates(flow, along(a, h / 2), t + h / 2);
    const c = rates(flow, along(b, h / 2), t + h / 2);
    const d = rates(flow, along(c, h), t + h);
    states.push(y.map((value, k) => value + (h / 6) * (a[k] + 2 * b[k] + 2 * c[k] + d[k])));
  }
  return states;
}

const normal = ([a, b]) => -(a * a + b * b) / 2 - Math.log(2 * Math.PI);

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const learned = new FlowMap(data.map.flow);
  const dots = law.sample(700, new Random(1));
  const pictures = element("div", { class: "pictures pair" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const boxes = ["Drag the point of the data", "Log density along its path"].map((name) => {
    const box = element("div", {}, element("h3", {}, name));
    pictures.append(box);
    return box;
  });
  const plane = new Plane(boxes[0], { label: "A point of the data and its path to the noise, with a drop that it carries along" });
  const curve = new Plane(boxes[1], { x: [0, 1], y: [-7, 0.5], label: "The log density along the path, by the divergence and in closed form", xName: "time t", yName: "log p, nats" });
  const point = plane.handle({ at: [-0.95, 0.55], name: "the point at t = 0", colour: "text", onMove: update });
  const who = choice(controls, { name: "Velocity", options: [["learned", "learned"], ["exact", "exact"]], value: "learned", onInput: update });
  const time = slider(controls, { name: "time t, from data to noise", min: 0, max: 1, step: 1 / STEPS, value: 0.5, onInput: show });
  player(controls, { control: time, seconds: 4 });
  legend(controls, [
    ["first", "line", "path, and log p by the change of variables"],
    ["data", "dash", "log p in closed form"],
    ["second", "line", "the drop at time t: it grows where the divergence is positive"],
  ]);
  const say = readout(controls);
  let now = null;
  let rest = null;

  function update() {
    follow(QUICK);
    clearTimeout(rest);
    rest = setTimeout(() => follow(STEPS), 150);
  }

  function follow(steps) {
    const states = followed(who.value === "exact" ? law : learned, point.at, steps);
    const [end, whole] = [normal(states[steps]), states[steps][2]];
    const changed = states.map(([, , sum]) => end + whole - sum);
    const closed = states.map(([a, b], i) => law.logProb(Float64Array.of(a, b), i / steps)[0]);
    now = { x: [...point.at], states, changed, closed };
    show();
  }

  /** The number of the state at the time of the slider. */
  const moment = () => Math.round(time.value * (now.states.length - 1));

  function show() {
    const [found, truth] = [now.changed[0], now.closed[0]];
    const noise = now.changed.at(-1);
    const words = `${noise.toFixed(2)} at the noise, ${signed(found - noise)} by the divergence`;
    say(`log p = ${found.toFixed(2)} nats: ${words}. In closed form ${truth.toFixed(2)}, an error of ${Math.abs(found - truth).toFixed(3)}. At t = ${time.value.toFixed(2)} the drop has ${Math.exp(now.states[moment()][2]).toFixed(2)} times its first area.`);
    plane.redraw();
    curve.redraw();
  }

  const radius = (sum) => DROP * Math.exp(sum / 2) * (plane.width / (plane.x[1] - plane.x[0]));

  plane.onDraw(() => {
    plane.dots(dots, { colour: "data", size: 1.6, alpha: 0.4 });
    plane.line(now.states.map(([a, b]) => [a, b]), { colour: "first", width: 3 });
    plane.ring(now.states[0], { colour: "text", size: radius(0), width: 1 });
    const [a, b, sum] = now.states[moment()];
    plane.ring([a, b], { colour: "second", size: radius(sum), width: 3 });
    plane.text(now.x, "data", { shift: [-18, 22], align: "right" });
    plane.text(now.states.at(-1), "noise", { colour: "first", shift: [10, 20] });
  });
  curve.onDraw(() => {
    const line = (values) => values.map((value, i) => [i / (values.length - 1), value]);
    curve.line([[time.value, -7], [time.value, 0.5]], { colour: "muted", width: 1, dash: [2, 4] });
    curve.line(line(now.changed), { colour: "first", width: 3 });
    curve.line(line(now.closed), { colour: "data", width: 2.5, dash: [7, 5] });
    curve.ring([time.value, now.changed[moment()]], { colour: "second", size: 6, width: 3 });
    for (const value of [-6, -4, -2, 0]) curve.text([0, value], String(value), { colour: "muted", shift: [6, 5], size: 13 });
  });
  update();
  return { state: () => ({ ...now, t: time.value, rests: now.states.length > STEPS }) };
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

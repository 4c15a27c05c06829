// Chapter 3: the triangle of two jumps, the canoe and the bridge, each with its residual, over the training of a map.

import { bars } from "bars";
import { add, compositional, eulerian, lagrangian } from "consistency";
import { choice, legend, readout, slider } from "controls";
import { Mixture, solve } from "exact";
import { FlowMap } from "networks";
import { Plane, colour, element } from "plane";
import { Random } from "random";

const METHODS = { compositional: "psd", lagrangian: "lsd", eulerian: "esd" };
const SHOWN = -0.25; // velocities are drawn as the motion while a time falls by this much, towards the data
const LEGENDS = {
  compositional: [["first", "line", "one jump from s to t"], ["second", "dash", "two jumps, with a stop at m"]],
  lagrangian: [
    ["first", "line", "canoe: how F moves when t falls"], ["second", "dash", "river: the velocity v at F"],
    ["first", "dot", "F for all t, the canoe's track"],
  ],
  eulerian: [
    ["first", "line", "how F moves when the clock s falls"], ["second", "dash", "how F moves when x drifts with the river"],
    ["first", "dot", "where the water under the bridge lands"],
  ],
};

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const maps = Object.fromEntries(Object.entries(METHODS).map(([rule, name]) => [rule, learned(data, name, law)]));
  const dots = law.sample(700, new Random(1));
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const plane = new Plane(pictures, { x: [-2.2, 2.2], y: [-2.2, 2.2], label: "A point, its jump along the true path, and the residual of a consistency rule" });
  const point = plane.handle({ at: [-0.2, 0.1], name: "the point x at time s", colour: "text", onMove: update });

  const rule = choice(controls, {
    name: "Rule", value: "compositional", onInput: pick,
    options: [["compositional", "triangle"], ["lagrangian", "canoe"], ["eulerian", "bridge"]],
  });
  const trained = slider(controls, {
    name: "training of the map", min: 0, max: 4, step: 1, value: 1, format: (i) => maps.compositional[i].label, onInput: update,
  });
  const source = slider(controls, { name: "s, the time of the point", min: 0.1, max: 1, value: 1, onInput: update });
  const target = slider(controls, { name: "t, where to jump", min: 0, max: 1, value: 0, onInput: update });
  const split = slider(controls, { name: "m, the stop on the way", min: 0, max: 1, value: 0.5, onInput: update });
  const where = element("div");
  controls.append(where);
  const say = readout(controls);
  controls.append(element("h3", {}, "Length of the residual at this point"));
  const lengths = bars(controls, {
    name: "Length of the residual, by training; choose one", onPick: (i) => trained.set(i),
    rows: maps.compositional.map(({ label }, i) => [i, label]),
  });
  let now = null;

  function pick() {
    where.replaceChildren();
    legend(where, [...LEGENDS[rule.value], ["fourth", "line", "residual"], ["data", "line", "true path"]]);
    split.input.closest(".control").hidden = rule.value !== "compositional";
    update();
  }

  function update() {
    const [s, t, x] = [source.value, target.value, Float64Array.from(point.at)];
    const m = s + split.value * (t - s);
    const apply = {
      compositional: (flow) => compositional(flow, x, s, t, m),
      lagrangian: (flow) => lagrangian(flow, law, x, s, t),
      eulerian: (flow) => eulerian(flow, law, x, s, t),
    }[rule.value];
    const all = maps[rule.value].map(({ flow }) => Math.hypot(...apply(flow).residual));
    const { flow, label } = maps[rule.value][trained.value];
    now = { rule: rule.value, x, s, t, m, flow, ...apply(flow), all, path: along(law, x, s, t) };
    say(`${METHODS[rule.value]}, ${label}: the residual is ${all[trained.value].toFixed(3)} in units of velocity. At the exact map it is ${all.at(-1).toFixed(3)}.`);
    lengths.set((i) => ({ share: all[i] / Math.max(0.5, ...all), text: all[i].toFixed(3) }));
    lengths.mark(trained.value);
    plane.redraw();
  }

  plane.onDraw(() => {
    plane.dots(dots, { colour: "data", size: 1.6, alpha: 0.35 });
    if (now.rule !== "compositional") river(plane, law, now.rule === "lagrangian" ? now.t : now.s);
    plane.line(now.path, { colour: "data", width: 4 });
    ({ compositional: triangle, lagrangian: canoe, eulerian: bridge })[now.rule](plane, now, law);
    plane.text(now.x, "x", { shift: [16, -12] });
  });
  pick();
  return {
    state: () => ({
      rule: now.rule, x: [...now.x], s: now.s, t: now.t, m: now.m, residual: [...now.residual], all: now.all,
      method: METHODS[now.rule], training: trained.value,
    }),
  };
}

/** The snapshots of a method, and the exact map. */
function learned(data, name, law) {
  const { snapshots } = data.landscape.methods.find((method) => method.name === name);
  const last = snapshots.at(-1).steps;
  const label = ({ steps }) => `${Math.round((100 * steps) / last)} %`;
  return [...snapshots.map((each) => ({ label: label(each), flow: new FlowMap(each.flow) })), { label: "exact map", flow: law }];
}

/** The true path of x from s to t. */
function along(law, x, s, t) {
  const path = [];
  solve((y, time) => law.velocity(y, time), x, s, t, { visit: (y) => path.push([y[0], y[1]]) });
  return path;
}

/** The velocity of the exact law on a grid, towards the data. */
function river(plane, law, t) {
  for (let i = -5; i <= 5; i++) {
    for (let j = -5; j <= 5; j++) {
      const at = Float64Array.of(i * 0.47, j * 0.47);
      plane.line([at, add(at, law.velocity(at, t), -0.08)], { colour: "muted", width: 1.5, alpha: 0.45 });
    }
  }
}

/** The residual as an arrow, with its name beside its middle; a ring where it is too short to see. */
function residual(plane, from, to) {
  const [[a, b], [c, d]] = [plane.pixel(from), plane.pixel(to)];
  const length = Math.hypot(c - a, d - b);
  if (length < 4) plane.ring(to, { colour: "fourth", size: 9, width: 3 });
  else plane.arrow(from, to, { colour: "fourth", width: 5 });
  const away = length < 4 ? [14, 22] : [(12 * (b - d)) / length, (12 * (c - a)) / length];
  if (away[0] < 0) away.forEach((shift, i) => (away[i] = -shift));
  plane.text(add(from, add(to, from, -1), 0.5), length < 4 ? "residual: none" : "residual", { colour: "fourth", shift: [away[0] + 4, away[1] + 5] });
}

/** One jump, two jumps, and the gap between their ends. */
function triangle(plane, { x, middle, two, end }) {
  plane.arrow(x, middle, { colour: "second", width: 2.5, dash: [7, 5] });
  plane.arrow(middle, two, { colour: "second", width: 2.5, dash: [7, 5] });
  plane.ring(middle, { colour: "second", size: 6 });
  plane.text(middle, "m", { colour: "second", shift: [10, -6] });
  plane.arrow(x, end, { colour: "first", width: 3 });
  residual(plane, two, end);
}

/** A canoe at F: where it goes when t falls, and where the river goes there. */
function canoe(plane, { flow, x, s, t, end, motion, velocity }) {
  for (let i = 0; i <= 16; i++) plane.ring(flow.jump(x, s, s + (i / 16) * (t - s)), { colour: "first", size: 3, fill: true });
  const [boat, water] = [add(end, motion, SHOWN), add(end, velocity, SHOWN)];
  hull(plane, end, boat);
  plane.arrow(end, water, { colour: "second", width: 3, dash: [7, 5] });
  plane.arrow(end, boat, { colour: "first", width: 3 });
  residual(plane, water, boat);
}

/** A bridge at x: the clock alone moves F, the water alone moves F, and together they must leave it where it is. */
function bridge(plane, { flow, x, s, t, end, clock, water, velocity }, law) {
  for (const later of [0.12, 0.06, 0, -0.06, -0.12]) {
    const time = Math.min(1, s + later);
    const drop = solve((y, at) => law.velocity(y, at), x, s, time);
    const landing = flow.jump(drop, time, t);
    plane.line([drop, landing], { colour: "first", width: 1, alpha: 0.5 });
    plane.ring(drop, { colour: "data", size: 4, fill: true });
    plane.ring(landing, { colour: "first", size: 4, fill: true });
  }
  const carried = add(end, water, SHOWN);
  const both = add(carried, clock, SHOWN);
  span(plane, x, velocity);
  plane.arrow(end, carried, { colour: "second", width: 5, dash: [7, 5] });
  plane.arrow(carried, both, { colour: "first", width: 2.5 });
  residual(plane, end, both);
}

/** The outline of a boat at a point, with its bow towards another. */
function hull(plane, at, ahead) {
  const [[a, b], [c, d]] = [plane.pixel(at), plane.pixel(ahead)];
  const turn = Math.atan2(d - b, c - a);
  const { context } = plane;
  context.save();
  context.translate(a, b);
  context.rotate(turn);
  context.beginPath();
  context.moveTo(-20, 0);
  context.quadraticCurveTo(0, 13, 22, 0);
  context.quadraticCurveTo(0, -13, -20, 0);
  context.restore();
  stroke(plane);
}

/** Two rails across the river at a point. */
function span(plane, at, velocity) {
  const [[a, b], [c, d]] = [plane.pixel(at), plane.pixel(add(at, velocity, SHOWN))];
  const length = Math.hypot(c - a, d - b) || 1;
  const [u, v] = [(c - a) / length, (d - b) / length];
  const { context } = plane;
  context.beginPath();
  for (const side of [-8, 8]) {
    context.moveTo(a + side * u - 34 * v, b + side * v + 34 * u);
    context.lineTo(a + side * u + 34 * v, b + side * v - 34 * u);
  }
  stroke(plane);
}

function stroke({ context }) {
  context.strokeStyle = colour("text");
  context.lineWidth = 2.5;
  context.stroke();
}

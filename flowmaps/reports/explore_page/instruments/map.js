// Chapter 2: a point on its path; the denoiser's guess, the jump, the chord of the average velocity, and Euler steps.

import { choice, legend, readout, slider } from "controls";
import { Mixture, solve } from "exact";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";
import { euler, times, walk } from "walks";

const START = [-0.45, 0.03]; // between two modes, so that the path bends

/** What the instrument shows for a point x: path and guess by the velocity of `truth`, jump by `flow`. */
export function seen(flow, truth, x, s, t, steps, label = null) {
  const path = [];
  const end = solve((y, time) => truth.velocity(y, time, label), x, s, t, { visit: (y) => path.push([y[0], y[1]]) });
  return {
    path,
    end: [...end],
    guess: [...truth.denoise(x, s, label)],
    walked: walk(truth, x, times(steps, s, t), euler, label).map((y) => [y[0], y[1]]),
    jump: [...flow.jump(x, s, t, label)],
  };
}

/** Draw it. Without a velocity there is the jump alone. */
export function drawSeen(plane, x, now) {
  if (now.path) {
    plane.line(now.path, { colour: "data", width: 4 });
    plane.line([x, now.guess], { colour: "third", width: 2.5, dash: [6, 5] });
    plane.ring(now.guess, { colour: "third", size: 7 });
    plane.line(now.walked, { colour: "second", width: 2.5 });
    for (const state of now.walked.slice(1)) plane.ring(state, { colour: "second", size: 4, fill: true });
    plane.text(now.guess, "guess", { colour: "third", shift: [10, -8] });
  }
  plane.arrow(x, now.jump, { colour: "first", width: 3 });
  plane.text(now.jump, "F", { colour: "first", shift: [8, 18] });
  plane.text(x, "x", { shift: [16, -12] });
}

export const LEGEND = [
  ["data", "line", "true path of the point"],
  ["third", "dash", "denoiser's guess at the data"],
  ["first", "line", "jump F(x, s, t), along V"],
  ["second", "line", "Euler steps on the velocity"],
];

/** The distances from the end of the path, as a sentence. */
export function distances(now, steps) {
  const off = (to) => Math.hypot(to[0] - now.end[0], to[1] - now.end[1]).toFixed(3);
  return `the jump is ${off(now.jump)} away, ${steps} Euler step${steps > 1 ? "s" : ""} ${off(now.walked.at(-1))}, the denoiser's guess ${off(now.guess)}`;
}

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const flow = new FlowMap(data.map.flow);
  const dots = law.sample(900, new Random(1));
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const plane = new Plane(pictures, { label: "A point on its path from noise to data, with the denoiser's guess and the jump" });
  const point = plane.handle({ at: START, name: "the point x at time s", colour: "text", onMove: update });

  const source = slider(controls, { name: "s, the time of the point", min: 0.02, max: 1, value: 1, onInput: update });
  const target = slider(controls, { name: "t, where to jump", min: 0, max: 1, value: 0, onInput: update });
  const steps = slider(controls, { name: "Euler steps", min: 1, max: 64, step: 1, value: 3, format: String, onInput: update });
  const who = choice(controls, {
    name: "Flow map", options: [["learned", "learned"], ["exact", "exact"]], value: "learned", onInput: update,
  });
  legend(controls, LEGEND);
  const say = readout(controls);
  let now = null;

  function update() {
    const [s, t, x] = [source.value, target.value, Float64Array.from(point.at)];
    now = seen(who.value === "exact" ? law : flow, law, x, s, t, steps.value);
    say(`From the end of the true path: ${distances(now, steps.value)}.`);
    plane.redraw();
  }

  plane.onDraw(() => {
    plane.dots(dots, { colour: "data", size: 1.6, alpha: 0.45 });
    drawSeen(plane, point.at, now);
  });
  update();
  return {
    state: () => {
      const [s, t, x] = [source.value, target.value, Float64Array.from(point.at)];
      return { ...now, x: [...x], s, t, V: [...flow.averageVelocity(x, s, t)] };
    },
  };
}

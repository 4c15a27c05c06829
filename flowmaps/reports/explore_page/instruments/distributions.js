// Chapter 8: generators of one step, from the same noise: a flow map beside methods that match distributions alone.

import { choice, legend, readout, slider } from "controls";
import { Mixture } from "exact";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";

const ROWS = 400;
const LINES = 60;
const NAMES = { lsd: "flow map (lsd)", drifting: "drifting", dmd: "dmd", imm: "imm" };

/** Sum of the distances of all points of x to all points of y. */
function far(x, y) {
  let sum = 0;
  for (let n = 0; n < x.length; n += 2) for (let m = 0; m < y.length; m += 2) sum += Math.hypot(x[n] - y[m], x[n + 1] - y[m + 1]);
  return sum;
}

/** fm.evaluate.energy_distance: 2 E|X - Y| - E|X - X'| - E|Y - Y'|, without pairs of a point with itself. */
export function energyDistance(x, y) {
  const [n, m] = [x.length / 2, y.length / 2];
  return (2 * far(x, y)) / (n * m) - far(x, x) / (n * (n - 1)) - far(y, y) / (m * (m - 1));
}

const meanDistance = (x, y) => x.reduce((sum, _, i) => (i % 2 ? sum + Math.hypot(x[i - 1] - y[i - 1], x[i] - y[i]) : sum), 0) / (x.length / 2);

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const random = new Random(8);
  const [noise, truth] = [random.normals(2 * ROWS), law.sample(2 * ROWS, random)];
  const exact = law.jump(noise, 1, 0);
  const flows = Object.fromEntries(data.distributions.methods.map((method) => [method.name, method.snapshots.map(({ flow }) => new FlowMap(flow))]));
  const steps = data.distributions.methods[0].snapshots.map((snapshot) => snapshot.steps);
  const pictures = element("div", { class: "pictures pair" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const other = choice(controls, {
    name: "On the right", options: ["drifting", "dmd", "imm"].map((name) => [name, name]), value: "dmd", onInput: update,
  });
  const last = steps.length - 1;
  const format = (i) => `${Math.round((100 * steps[i]) / steps[last])}%`;
  const training = slider(controls, { name: "part of the training", min: 0, max: last, step: 1, value: last, format, onInput: update });
  const sides = ["lsd", "right"].map((key) => {
    const heading = element("h3", {}, NAMES[key] ?? "");
    const box = element("div", {}, heading);
    pictures.append(box);
    const plane = new Plane(box, { label: "Lines from noise to the samples of a generator of one step" });
    const side = { heading, plane, tone: key === "lsd" ? "first" : "second", name: () => (key === "lsd" ? "lsd" : other.value) };
    side.handle = plane.handle({ at: [-0.3, 0.05], name: "the noise of both", colour: "text", onMove: drag });
    plane.onDraw(() => draw(side));
    return side;
  });
  legend(controls, [
    ["noise", "line", "from a noise to its sample"],
    ["first", "dot", "samples of the flow map"],
    ["second", "dot", "samples of the other method"],
    ["third", "dash", "where the exact path of your noise ends (ring)"],
  ]);
  const say = readout(controls);
  const chance = energyDistance(exact, truth); // not 0, because the points are few
  const found = {}; // samples and numbers of each snapshot, made when they are first shown

  function snapshot(name) {
    const key = `${name} ${training.value}`;
    if (!found[key]) {
      const samples = flows[name][training.value].jump(noise, 1, 0);
      found[key] = { samples, off: meanDistance(samples, exact), energy: energyDistance(samples, truth) };
    }
    return found[key];
  }

  function drag(at) {
    for (const each of sides) {
      each.handle.at = at;
      each.plane.redraw();
    }
  }

  function update() {
    const [left, right] = sides.map((side) => snapshot(side.name()));
    sides[1].heading.textContent = NAMES[other.value];
    say(`Mean distance to the end of the exact path: lsd ${left.off.toFixed(2)}, ${other.value} ${right.off.toFixed(2)}. Energy distance to the data: lsd ${left.energy.toFixed(3)}, ${other.value} ${right.energy.toFixed(3)}, exact map ${chance.toFixed(3)}.`);
    for (const { plane } of sides) plane.redraw();
  }

  function draw({ plane, tone, name, handle }) {
    const { samples } = snapshot(name());
    for (let n = 0; n < 2 * LINES; n += 2) {
      plane.line([[noise[n], noise[n + 1]], [samples[n], samples[n + 1]]], { colour: "noise", width: 1.3, alpha: 0.75 });
    }
    plane.dots(samples, { colour: tone, size: 2.2, alpha: 0.75 });
    const [mine, end] = dragged(name());
    plane.line([handle.at, end], { colour: "third", width: 2.5, dash: [6, 5] });
    plane.ring(end, { colour: "third", size: 8 });
    plane.arrow(handle.at, mine, { colour: tone, width: 3 });
    plane.text(handle.at, "noise", { shift: [14, 22] });
  }

  /** The sample of the noise that is dragged, and the end of its exact path. */
  function dragged(name) {
    const x = Float64Array.from(sides[0].handle.at);
    return [flows[name][training.value].jump(x, 1, 0), law.jump(x, 1, 0)].map((y) => [...y]);
  }

  update();
  return {
    state: () => ({
      x: [...sides[0].handle.at], noise: [...noise], truth: [...truth], exact: [...exact],
      sides: sides.map(({ name }) => ({ name: name(), end: dragged(name()), ...snapshot(name()), samples: [...snapshot(name()).samples] })),
    }),
  };
}

// Chapter 8: a flow map on the sphere, from uniform noise to earthquakes; fifty small steps beside one jump.

import { legend, player, readout, slider } from "controls";
import { Globe, View, vectors } from "globe";
import { FlowMap, exponential } from "networks";
import { element } from "plane";
import { Random } from "random";

const ROWS = 300;
const STEPS = 50;
const DEGREES = 180 / Math.PI;

/** Points of the uniform distribution: normal numbers divided by their norm. */
function uniform(n, random) {
  const x = random.normals(3 * n);
  return exponential(x, new Float64Array(x.length)); // exp_x(0), which normalises x
}

const angle = (x, n, y, m) => Math.acos(Math.max(-1, Math.min(1, x[n] * y[m] + x[n + 1] * y[m + 1] + x[n + 2] * y[m + 2])));

/** Median angle in degrees from each point of x to the nearest point of y. */
function nearness(x, y) {
  const found = new Float64Array(x.length / 3);
  for (let n = 0; n < x.length; n += 3) {
    let largest = -1;
    for (let m = 0; m < y.length; m += 3) largest = Math.max(largest, x[n] * y[m] + x[n + 1] * y[m + 1] + x[n + 2] * y[m + 2]);
    found[n / 3] = Math.acos(Math.min(1, largest)) * DEGREES;
  }
  return found.sort()[Math.floor(found.length / 2)];
}

export default function make(root, data) {
  const flow = new FlowMap(data.globe.flow);
  const earthquakes = vectors(data.globe.earthquakes);
  const noise = uniform(ROWS, new Random(2));
  const walked = [noise];
  const jumped = [noise];
  const pictures = element("div", { class: "pictures pair" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const view = new View(10, 150);
  const coast = data.globe.coast.map(vectors);
  const globes = [["Fifty small steps", walked, "second"], ["One jump", jumped, "first"]].map(([name, states, tone]) => {
    const box = element("div", {}, element("h3", {}, name));
    pictures.append(box);
    const globe = new Globe(box, { view, coast, label: `${name} from uniform noise to earthquakes, on a globe` });
    globe.onDraw(() => {
      globe.land();
      for (let n = 0, seen = globe.near(earthquakes); n < seen.length; n += 2) {
        globe.ring([seen[n], seen[n + 1]], { colour: "data", size: 2.5, width: 1 });
      }
      globe.dots(globe.near(states[reached(states)]), { colour: tone, size: 2.6, alpha: 0.9 });
    });
    return globe;
  });
  const time = slider(controls, { name: "time t, from noise to earthquakes", min: 0, max: 1, step: 1 / STEPS, value: 1, format: (p) => (1 - p).toFixed(2), onInput: update });
  player(controls, { control: time, seconds: 4 });
  legend(controls, [
    ["second", "dot", "left: samples in fifty small steps of the velocity"],
    ["first", "dot", "right: the same noise in one jump to t"],
    ["data", "dot", `rings: ${earthquakes.length / 3} earthquakes kept out of the training`],
  ]);
  const say = readout(controls);

  const step = () => Math.round(time.value * STEPS);
  const reached = (states) => Math.min(step(), states.length - 1);

  function update() {
    for (const globe of globes) globe.redraw();
    if (step() >= jumped.length) return say(`The network is at work, at t = ${(1 - (jumped.length - 1) / STEPS).toFixed(2)}.`);
    const [a, b] = [walked[step()], jumped[step()]];
    const apart = Float64Array.from({ length: ROWS }, (_, n) => angle(a, 3 * n, b, 3 * n) * DEGREES).sort()[ROWS / 2];
    const near = [a, b, noise].map((x) => nearness(x, earthquakes).toFixed(1));
    say(`At t = ${(1 - step() / STEPS).toFixed(2)} both ways are ${apart.toFixed(1)}° apart (median). To the nearest earthquake: ${near[0]}° in steps, ${near[1]}° in one jump, ${near[2]}° for noise.`);
  }

  /** One more step and one more jump; a frame lies between two of them, so that the page stays quick. */
  function work() {
    const at = walked.length;
    const [s, t] = [1 - (at - 1) / STEPS, 1 - at / STEPS];
    walked.push(exponential(walked[at - 1], flow.velocity(walked[at - 1], s).map((v) => (t - s) * v)));
    jumped.push(flow.jump(noise, 1, t));
    if (step() <= at) update();
    if (at < STEPS) setTimeout(work);
  }
  update();
  work();
  return {
    state: () => ({
      ready: walked.length > STEPS, t: 1 - step() / STEPS, noise: [...noise], walked: [...walked[reached(walked)]], jumped: [...jumped[reached(jumped)]],
      view: [view.latitude, view.longitude], seen: globes[1].near(jumped[reached(jumped)]), nearness: [walked, jumped, [noise]].map((states) => nearness(states.at(-1), earthquakes)),
    }),
  };
}

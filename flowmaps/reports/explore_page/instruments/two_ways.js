// Chapter 1: a deterministic and a stochastic sampler from the same noise, on a line and in the plane.

import { choice, legend, player, readout, slider } from "controls";
import { Mixture } from "exact";
import { Plane, element } from "plane";
import { Random } from "random";
import { ancestral, euler, times, walk } from "walks";

const STEPS = 100;
const LINES = 24; // paths that are drawn
const ROWS = 600; // paths that the histograms count
const KINDS = [["deterministic", "first"], ["stochastic", "second"]];

/** The states of both samplers from the same noise. */
function walks(law, random) {
  const noise = random.normals(ROWS * law.size);
  const grid = times(STEPS);
  return { deterministic: walk(law, noise, grid, euler), stochastic: walk(law, noise, grid, ancestral(random)) };
}

export default function make(root, data) {
  const laws = { line: new Mixture(data.law.line), plane: new Mixture(data.law.ring) };
  const states = {};
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);

  const where = choice(controls, {
    name: "Data",
    options: [["line", "on a line"], ["plane", "in the plane"]],
    value: "line",
    onInput: arrange,
  });
  const time = slider(controls, {
    name: "time t, from noise to data", min: 0, max: 1, step: 0.01, value: 0, format: (p) => (1 - p).toFixed(2), onInput: redraw,
  });
  player(controls, { control: time, seconds: 5 });
  legend(controls, [
    ["first", "line", "deterministic: fm.steps.euler"],
    ["second", "line", "stochastic: fm.steps.ancestral"],
    ["muted", "line", "exact density"],
  ]);
  const say = readout(controls);
  let planes = [];

  const step = () => Math.round(time.value * STEPS);
  const current = () => (states[where.value] ??= walks(laws[where.value], new Random(3)));

  function arrange() {
    pictures.replaceChildren();
    planes = where.value === "line" ? onLine() : inPlane();
    redraw();
  }

  function redraw() {
    for (const plane of planes) plane.redraw();
    const [first, second] = KINDS.map(([kind]) => spread(current()[kind][step()]));
    say(`${ROWS} walks at t = ${(1 - time.value).toFixed(2)}: standard deviation ${first.toFixed(2)} deterministic, ${second.toFixed(2)} stochastic.`);
  }

  function onLine() {
    return KINDS.map(([kind, tone]) => {
      const box = element("div", {}, element("h3", {}, `${kind[0].toUpperCase()}${kind.slice(1)}`));
      pictures.append(box);
      const label = `Walks of the ${kind} sampler from noise on the left to data on the right`;
      const plane = new Plane(box, { x: [1.02, -0.32], y: [-3, 3], ratio: 0.36, label, xName: "data", yName: "noise" });
      plane.onDraw(() => drawLine(plane, current()[kind], tone));
      return plane;
    });
  }

  function drawLine(plane, walked, tone) {
    const now = step();
    for (let row = 0; row < LINES; row++) {
      const path = walked.map((state, i) => [1 - i / STEPS, state[row]]);
      plane.line(path, { colour: tone, width: 1, alpha: 0.18 });
      plane.line(path.slice(0, now + 1), { colour: tone, width: 1.6, alpha: 0.85 });
      plane.ring([1 - now / STEPS, walked[now][row]], { colour: tone, size: 3, fill: true });
    }
    plane.line([[1 - now / STEPS, -3], [1 - now / STEPS, 3]], { colour: "muted", width: 1, dash: [4, 4] });
    drawDensity(plane, walked[now], 1 - now / STEPS, tone);
  }

  /** The histogram of all walks beside the exact density, at the right edge. */
  function drawDensity(plane, state, t, tone) {
    const [bins, low, width] = [30, -3, 0.2];
    const counts = new Float64Array(bins);
    for (const value of state) counts[Math.floor((value - low) / width)]++;
    const out = (density) => -0.03 - 0.3 * density;
    for (let i = 0; i < bins; i++) {
      const y = low + (i + 0.5) * width;
      plane.line([[out(0), y], [out(counts[i] / state.length / width), y]], { colour: tone, width: 5, alpha: 0.55 });
    }
    const grid = Float64Array.from({ length: 121 }, (_, i) => low + i * 0.05);
    const density = laws.line.logProb(grid, t).map(Math.exp);
    plane.line([...grid].map((y, i) => [out(density[i]), y]), { colour: "muted", width: 2 });
  }

  function inPlane() {
    const row = element("div", { class: "pictures pair" });
    pictures.append(row);
    return KINDS.map(([kind, tone]) => {
      const box = element("div", {}, element("h3", {}, `${kind[0].toUpperCase()}${kind.slice(1)}`));
      row.append(box);
      const plane = new Plane(box, { label: `Walks of the ${kind} sampler in the plane, from noise to six groups of points` });
      plane.onDraw(() => {
        const [walked, now] = [current()[kind], step()];
        plane.dots(walked[now], { colour: tone, size: 2, alpha: 0.55 });
        for (let n = 0; n < 8; n++) {
          const path = walked.slice(0, now + 1).map((state) => [state[2 * n], state[2 * n + 1]]);
          plane.line(path, { colour: "text", width: 1.4, alpha: 0.8 });
          plane.ring(path[now], { colour: tone, size: 5, fill: true });
        }
      });
      return plane;
    });
  }

  arrange();
  return {
    state: () => {
      const both = current();
      return { t: 1 - time.value, deterministic: [...both.deterministic[step()]], stochastic: [...both.stochastic[step()]] };
    },
  };
}

/** Standard deviation of all numbers. */
function spread(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

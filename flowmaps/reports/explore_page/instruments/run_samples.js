// A run in the plane: its samples by a few jumps, on their way, and where its jumps agree with each other.

import { choice, legend, menu, player, readout, slider } from "controls";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";
import { extent, jump, restart, times, walk } from "walks";

const ROWS = 500;
const CELLS = 12; // of the heat map, in each direction
const CHECKED = 24; // points of a cell

export default function make(root, data) {
  const runs = data.runs.map((run) => ({ ...run, map: new FlowMap(run.flow) }));
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const rows = runs.map((run) => {
    const row = element("div", { class: "pictures pair" });
    pictures.append(row);
    return row;
  });
  const range = extent(runs.map((run) => run.real));
  const most = runs.some((run) => run.map.source !== null) ? [[1, "1"]] : [1, 2, 4, 8, 16].map((k) => [k, String(k)]);
  const jumps = choice(controls, { name: "jumps", options: most, value: 1, onInput: update });
  const part = slider(controls, { name: "way from noise to data", min: 0, max: 1, value: 1, format: (p) => `${Math.round(100 * p)} %`, onInput: redraw });
  player(controls, { control: part, seconds: 2 });
  const names = runs.map((run) => run.classes).find(Boolean) ?? null;
  const label = names && menu(controls, { name: "class", options: names.map((name, i) => [i, name]), value: 0, onInput: update });
  legend(controls, [["first", "dot", "samples"], ["data", "dot", "real data"]]);
  const say = readout(controls);
  const point = readout(controls);
  let states = [];

  const clouds = runs.map((run, i) => {
    const box = element("div", {}, element("h3", {}, run.name));
    rows[i].append(box);
    const plane = new Plane(box, { ...range, label: `Samples of ${run.name} beside real data` });
    plane.onDraw(() => {
      plane.dots(Float64Array.from(run.real), { colour: "data", size: 1.5, alpha: 0.5 });
      plane.dots(between(states[i], part.value), { colour: "first", size: 2, alpha: 0.75 });
    });
    return plane;
  });

  const heats = runs.map((run, i) => (run.map.source === null && run.map.target === null ? heat(run, rows[i]) : null));

  /** Where two half jumps and one whole jump disagree, over s and t. */
  function heat(run, row) {
    const box = element("div", {}, element("h3", {}, "Two half jumps against one, over (s, t)"));
    row.append(box);
    const plane = new Plane(box, { x: [0, 1], y: [0, 1], label: `Disagreement of jumps of ${run.name} over s and t`, xName: "s", yName: "t" });
    const values = new Float64Array(CELLS * CELLS).fill(NaN);
    const random = new Random(5);
    let cell = 0;
    const work = () => {
      const until = performance.now() + 8;
      while (cell < values.length && performance.now() < until) {
        const [s, t] = [(cell % CELLS) + 0.5, Math.floor(cell / CELLS) + 0.5].map((k) => k / CELLS);
        if (t < s) values[cell] = residual(run, s, t, random);
        cell++;
      }
      plane.redraw();
      if (cell < values.length) setTimeout(work, 0);
    };
    setTimeout(work, 0);
    const largest = () => values.reduce((top, value) => (value > top ? value : top), 1e-9);
    plane.onDraw(() => plane.heat(values.map((value) => value / largest()), CELLS, CELLS));
    plane.onHover((at) => {
      if (!at) return point("");
      const [i, j] = at.map((value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS))));
      const value = values[j * CELLS + i];
      point(Number.isFinite(value) ? `${run.name}: from s = ${at[0].toFixed(2)} to t = ${at[1].toFixed(2)} the two ways end ${value.toFixed(3)} apart.` : "");
    });
    return { values };
  }

  function residual(run, s, t, random) {
    const x = new Float64Array(2 * CHECKED);
    const data = run.real;
    for (let n = 0; n < CHECKED; n++) {
      const row = 2 * Math.floor(random.uniform() * (data.length / 2));
      for (let i = 0; i < 2; i++) x[2 * n + i] = run.map.path.alpha(s) * data[row + i] + run.map.path.sigma(s) * random.normal();
    }
    return disagreement(run.map, x, s, t, label?.value);
  }

  function update() {
    const noise = new Random(2).normals(2 * ROWS);
    states = runs.map(({ map }) =>
      walk(map, noise, times(jumps.value), map.target === 0 && jumps.value > 1 ? restart(new Random(4)) : jump, label?.value),
    );
    say(`${ROWS} samples by ${jumps.value} jump${jumps.value > 1 ? "s" : ""}${names ? ` of the class ${names[label.value]}` : ""}.`);
    redraw();
  }

  function redraw() {
    for (const plane of clouds) plane.redraw();
  }

  update();
  return {
    state: () => ({
      jumps: jumps.value,
      samples: states.map((walked) => [...walked.at(-1)]),
      residuals: heats.map((made) => made && [...made.values]),
    }),
  };
}

/** Root mean square distance between F(F(x, s, u), u, t) and F(x, s, t), u half way. */
export function disagreement(map, x, s, t, label = null) {
  const u = (s + t) / 2;
  const [whole, halves] = [map.jump(x, s, t, label), map.jump(map.jump(x, s, u, label), u, t, label)];
  const square = whole.reduce((sum, value, i) => sum + (value - halves[i]) ** 2, 0);
  return Math.sqrt(square / (x.length / 2));
}

/** States between the ones of a walk, along straight lines, at a share of the way. */
function between(walked, part) {
  const at = part * (walked.length - 1);
  const before = Math.min(Math.floor(at), walked.length - 2);
  return walked[before].map((value, i) => value + (at - before) * (walked[before + 1][i] - value));
}

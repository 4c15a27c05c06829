// Chapter 5: all methods on the same data, over their training: samples, distance from the exact map over (s, t), cost.

import { bars } from "bars";
import { choice, legend, menu, readout, slider } from "controls";
import { Mixture, solve } from "exact";
import { FlowMap } from "networks";
import { trigonometric } from "paths";
import { pieces } from "pieces";
import { Plane, element, shade } from "plane";
import { Random } from "random";
import { euler, jump, restart, times, walk } from "walks";

const ROWS = 400; // samples in the picture, computed BLOCK at a time
const BLOCK = 25;
const CELLS = 16; // of the heat map, in s and in t
const POINTS = 32; // of which each cell has the root mean square
const JUMPS = [1, 2, 4, 8, 16];
const darkness = (distance) => 1 + Math.log10(distance) / 2; // of 0.01 to 1, as 0 to 1

export default function make(root, data) {
  const { methods, passes } = data.landscape;
  const named = new Map(methods.map((method) => [method.name, method]));
  const law = new Mixture(data.law.ring);
  const dots = law.sample(ROWS, new Random(1));
  const noise = new Random(2).normals(2 * ROWS);
  const pictures = element("div", { class: "pictures pair" });
  const controls = element("div", { class: "controls" });
  const below = element("div", { class: "below" });
  root.append(pictures, controls, below);
  const plane = titled(pictures, "Samples beside data", { label: "Samples of the method on top of data: six groups of points on a ring" });
  const heat = titled(pictures, "Distance from the exact map: s across, t up", {
    x: [0, 1], y: [0, 1], label: "Distance between the jump from s to t and the exact map, as colours",
  });
  const probe = heat.handle({ at: [0.97, 0.03], name: "the jump from s to t", colour: "accent", onMove: tell });
  heat.onHover((at) => {
    hovered = at;
    tell();
  });

  const method = menu(controls, {
    name: "Method", value: "lsd", onInput: update,
    options: methods.map(({ name, rule }) => [name, name, rule]),
  });
  const trained = slider(controls, {
    name: "training", min: 0, max: 3, step: 1, value: 1, format: (i) => `${label(named.get("lsd").snapshots, i)}`, onInput: update,
  });
  const jumps = choice(controls, { name: "Jumps from noise to data", options: JUMPS.map((n) => [n, `${n}`]), value: 1, onInput: update });
  legend(controls, [["data", "dot", "data"], ["first", "ring", "samples"]]);
  const say = readout(controls);
  const point = readout(controls);
  const formula = element("p", { class: "note" });
  controls.append(formula);
  const header = element("p", { class: "note" });
  below.append(element("h3", {}, "All methods, best first"), header);
  const ranking = bars(below, {
    name: "Methods by the distance of their samples from the data; choose one", rows: methods.map(({ name }) => [name, name]),
    onPick: (name) => method.set(name),
  });

  const flows = new Map();
  const tables = new Map(); // distances of the heat map, by method and snapshot
  const exact = new Map(); // states of the exact paths, by kind of path
  const run = pieces();
  let [hovered, samples, order, finished] = [null, new Float64Array(0), "", false];

  const record = () => named.get(method.value);
  const key = () => `${method.value} ${trained.value}`;
  const table = () => tables.get(key());
  function flow() {
    if (!flows.has(key())) flows.set(key(), new FlowMap(record().snapshots[trained.value].flow));
    return flows.get(key());
  }

  function update() {
    const map = flow();
    const count = map.source === null ? jumps.value : 1;
    samples = new Float64Array(2 * ROWS).fill(NaN);
    if (!table()) tables.set(key(), new Float64Array(CELLS * CELLS).fill(NaN));
    finished = false;
    run(work(map, record(), count, table(), samples), (done) => {
      finished = done;
      plane.redraw();
      heat.redraw();
      tell();
    });
    describe(map, count);
    rank();
  }

  /** The samples, then the cells of the heat map that are not known yet. */
  function* work(map, { name, rule }, count, cells, into) {
    const grid = times(count);
    for (let start = 0; start < into.length; start += 2 * BLOCK) {
      const step = rule === "diffusion" ? euler : map.target === null ? jump : restart(new Random(start + 3));
      into.set(walk(map, noise.slice(start, start + 2 * BLOCK), grid, step).at(-1), start);
      yield;
    }
    const kind = data.ranking.methods[name].coupled ? "straight" : map.path === trigonometric ? "trigonometric" : "linear";
    if (!exact.has(kind)) exact.set(kind, yield* paths(law, kind));
    const states = exact.get(kind);
    const move = rule === "diffusion" ? euler : jump;
    for (let i = CELLS; i > 0; i--) {
      for (let j = 0; j < i; j++) {
        const unknown = (map.source !== null && i < CELLS) || (map.target !== null && j > 0);
        if (unknown || Number.isFinite(cells[j * CELLS + i - 1])) continue;
        cells[j * CELLS + i - 1] = distance(move(map, states[i], i / CELLS, j / CELLS), states[j]);
        yield;
      }
    }
  }

  function describe(map, count) {
    const { cost, rule, learning, reference, equation, snapshots } = record();
    const far = data.ranking.methods[method.value].distances[trained.value][JUMPS.indexOf(count)];
    const only = map.source !== null ? " It knows jumps from s = 1 alone, so it samples in one jump." : map.target !== null ? " It knows jumps to t = 0 alone, so several jumps add noise in between." : "";
    const walks = rule === "diffusion" ? "Euler step" : "jump";
    say(`${method.value}, ${rule}, ${learning}: energy distance ${far.toFixed(4)} from the data after ${count} ${walks}${count > 1 ? "s" : ""}; two sets of data differ by up to ${data.ranking.floor.toFixed(4)}. A step costs ${cost} forward passes, so ${passes.toLocaleString("en")} passes are ${snapshots.at(-1).steps.toLocaleString("en")} steps.${only}`);
    formula.textContent = `${equation}. ${reference}`;
  }

  /** The value under the pointer or the handle. */
  function tell() {
    const cell = under(hovered ?? probe.at);
    if (!cell) return point("Point at the coloured half: jumps go from noise towards data, so t is below s.");
    const value = table()?.[cell.index];
    const words = Number.isFinite(value) ? `lands ${value.toFixed(3)} from the exact end (root mean square of ${POINTS} points).` : finished ? "is not known to this map." : "is being computed.";
    point(`The jump from s = ${cell.s.toFixed(2)} to t = ${cell.t.toFixed(2)} ${words}`);
  }

  function rank() {
    const column = JUMPS.indexOf(jumps.value);
    const far = (name) => data.ranking.methods[name].distances[trained.value][column] ?? Infinity;
    const { floor } = data.ranking;
    header.textContent = `Energy distance from the data after ${jumps.value} jump${jumps.value > 1 ? "s" : ""} at ${label(record().snapshots, trained.value)} of the training, on a logarithmic scale from ${floor.toFixed(4)} (two sets of data) to 1; then the forward passes of a training step.`;
    ranking.set((name) => ({
      share: Number.isFinite(far(name)) ? 1 - Math.log(Math.max(floor, far(name))) / Math.log(floor) : 0,
      text: `${Number.isFinite(far(name)) ? far(name).toFixed(3) : "one jump"} · ${named.get(name).cost}`,
    }));
    ranking.mark(method.value);
    const sorted = [...named.keys()].sort((a, b) => (far(a) === far(b) ? 0 : far(a) - far(b)));
    if (order !== (order = sorted.join())) ranking.order(sorted);
  }

  plane.onDraw(() => {
    plane.dots(dots, { colour: "data", size: 2, alpha: 0.5 });
    for (let n = 0; n < samples.length; n += 2) {
      if (Number.isFinite(samples[n])) plane.ring([samples[n], samples[n + 1]], { colour: "first", size: 2.6, width: 1.3 });
    }
  });
  heat.onDraw(() => {
    heat.heat(Array.from(table() ?? [], (value) => (Number.isFinite(value) ? Math.max(0, darkness(value)) : NaN)), CELLS, CELLS);
    scale(heat);
  });
  update();
  return {
    state: () => ({
      done: finished, method: method.value, training: trained.value, jumps: jumps.value, samples: [...samples], noise: [...noise],
      points: [...(exact.get("linear")?.[CELLS] ?? [])], distances: [...(table() ?? [])].map((value) => (Number.isFinite(value) ? value : null)),
      order: order.split(","),
    }),
  };
}

function titled(parent, title, options) {
  const box = element("div", {}, element("h3", {}, title));
  parent.append(box);
  return new Plane(box, options);
}

const label = (snapshots, i) => `${Math.round((100 * snapshots[i].steps) / snapshots.at(-1).steps)} %`;

/** The cell of the heat map at a point, or null above the diagonal. It has the value at its largest s and least t. */
function under([s, t]) {
  const [i, j] = [s, t].map((time) => Math.min(CELLS - 1, Math.max(0, Math.floor(time * CELLS))));
  return j > i ? null : { index: j * CELLS + i, s: (i + 1) / CELLS, t: j / CELLS };
}

/**
 * States on exact paths, at the times i / CELLS. Straight paths join the ends of the exact ones, as couplings do that are
 * made by a teacher.
 */
function* paths(law, kind) {
  const mixture = kind === "trigonometric" ? new Mixture(law, trigonometric) : law;
  const states = Array(CELLS + 1);
  states[CELLS] = new Random(9).normals(2 * POINTS);
  for (let i = CELLS; i > 0; i--) {
    states[i - 1] = solve((x, time) => mixture.velocity(x, time), states[i], i / CELLS, (i - 1) / CELLS, { steps: 6 });
    yield;
  }
  if (kind !== "straight") return states;
  const [end, start] = [states[0], states[CELLS]];
  return states.map((_, i) => end.map((value, n) => value + (i / CELLS) * (start[n] - value)));
}

/** Root mean square of the distances between points. */
function distance(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += (a[n] - b[n]) ** 2;
  return Math.sqrt((2 * sum) / a.length);
}

/** The meaning of the colours, in the empty half of the heat map. */
function scale(plane) {
  const { context, width, height } = plane;
  const [left, top, size] = [0.08 * width, 0.16 * height, 0.036 * width];
  for (let i = 0; i < 10; i++) {
    context.fillStyle = shade((i + 0.5) / 10);
    context.fillRect(left + i * size, top, size + 1, 14);
  }
  const at = plane.point([left, top]);
  for (const [value, words] of [[0, "0.01"], [5, "0.1"], [10, "1"]]) plane.text(at, words, { shift: [value * size, 30], align: "center", size: 13, colour: "muted" });
}

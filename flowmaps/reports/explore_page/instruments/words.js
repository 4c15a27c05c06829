// Chapter 8: one token with three values. Jumps with a softmax stay in the triangle of probabilities; others leave it.

import { legend, player, readout, slider } from "controls";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";
import { Categorical, flat, lifted } from "simplex";

const ROWS = 250;
const MOMENTS = 40; // states of the true path that are drawn
const CORNERS = flat(Float64Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1]));
const EDGE = [0, 1, 2, 0].map((k) => [CORNERS[2 * k], CORNERS[2 * k + 1]]);
const SHIFTS = [[12, 18, "left"], [-12, 18, "right"], [0, -12, "center"]];

/** How many rows lie outside of the triangle in the picture, by more than rounding. */
function outside(rows) {
  let count = 0;
  for (let n = 0; n < rows.length; n += 3) {
    const above = (rows[n] + rows[n + 1] + rows[n + 2] - 1) / 3; // the distance from the plane of probabilities
    count += Math.min(rows[n], rows[n + 1], rows[n + 2]) - above < -1e-6;
  }
  return count;
}

/** The point to which a jump aims, x + s (x - F)/(t - s) on the linear path: its denoised field D. */
const aim = (flow, x, s, t) => flow.averageVelocity(x, s, t).map((v, i) => x[i] - s * v);

export default function make(root, data) {
  const { words, probabilities } = data.words;
  const law = new Categorical(probabilities);
  const maps = { softmax: new FlowMap(data.words.softmax), free: new FlowMap(data.words.free) };
  const random = new Random(5);
  const noise = Float64Array.from({ length: 3 * ROWS }, () => random.normal());
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const range = { x: [-1.9, 1.9], y: [-1.4, 1.8], ratio: 3.2 / 3.8 };
  const plane = new Plane(pictures, { ...range, label: "The triangle of three words, with jumps from noise into it" });
  const start = plane.handle({ at: [1.4, 0.6], name: "the noise", colour: "text", onMove: update });

  const time = slider(controls, { name: "time t, from noise to data", min: 0, max: 1, value: 1, format: (p) => (1 - p).toFixed(2), onInput: update });
  player(controls, { control: time, seconds: 4 });
  legend(controls, [
    ["data", "line", "true path of your noise"],
    ["first", "line", "jump with a softmax; small discs are jumps of other noises"],
    ["third", "dash", "the probabilities D that it aims at"],
    ["second", "line", "jump of a network without softmax; crosses are its other jumps"],
  ]);
  const say = readout(controls);
  const clouds = new Map(); // by time, for both maps
  let now = null;

  function cloud(t) {
    if (!clouds.has(t)) clouds.set(t, Object.values(maps).map((map) => map.jump(noise, 1, t)));
    return clouds.get(t);
  }

  function update() {
    const [x, t] = [lifted(start.at), Math.round(100 * (1 - time.value)) / 100];
    const path = [x];
    for (let i = 1; i <= MOMENTS; i++) {
      const at = (step) => 1 - ((1 - t) * step) / MOMENTS;
      path.push(law.jump(path[i - 1], at(i - 1), at(i)));
    }
    const [softmax, free] = Object.values(maps).map((map) => map.jump(x, 1, t));
    const fields = { softmax: aim(maps.softmax, x, 1, t), free: aim(maps.free, x, 1, t) };
    now = { x, t, path, exact: path.at(-1), softmax, free, fields };
    const shares = [...fields.softmax].map((p, k) => `${words[k]} ${(100 * p).toFixed(0)}%`).join(", ");
    const [linked, unlinked] = cloud(0).map(outside);
    const ends = `Of ${ROWS} jumps to t = 0, ${linked} end outside of the triangle with a softmax and ${unlinked} without.`;
    say(`The jump to t = ${t.toFixed(2)} aims at ${shares}. ${ends}`);
    plane.redraw();
  }

  plane.onDraw(() => {
    const { context } = plane;
    const [at, softmax, free, field] = [now.x, now.softmax, now.free, now.fields.softmax].map((row) => [...flat(row)]);
    const [linked, unlinked] = cloud(now.t).map(flat);
    plane.line(EDGE, { colour: "muted", width: 2 });
    plane.crosses(unlinked, { colour: "second", alpha: 0.8 });
    plane.dots(linked, { colour: "first", size: 2.4, alpha: 0.6 });
    plane.line(now.path.map((row) => [...flat(row)]), { colour: "data", width: 4 });
    if (now.t < 1) {
      plane.arrow(at, free, { colour: "second" });
      plane.arrow(at, softmax, { colour: "first", width: 3 });
    }
    plane.line([softmax, field], { colour: "third", dash: [6, 5] });
    plane.ring(field, { colour: "third", size: 7 });
    context.globalAlpha = 1;
    words.forEach((word, k) => plane.text(EDGE[k], word, { shift: SHIFTS[k].slice(0, 2), align: SHIFTS[k][2], size: 16 }));
    plane.text(at, "noise", { shift: [0, -20], align: "center" });
    plane.text(field, "D", { colour: "third", shift: [-10, -10], align: "right" });
  });
  update();
  return {
    state: () => ({
      ...Object.fromEntries(["x", "exact", "softmax", "free"].map((name) => [name, [...now[name]]])),
      t: now.t, field: [...now.fields.softmax], denoised: [...law.denoise(now.x, 1)], noise: [...noise],
      outside: cloud(0).map(outside),
    }),
  };
}

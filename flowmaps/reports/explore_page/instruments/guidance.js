// Chapter 6: the guided path of a point, the jump of a student that is told the scale, and guided finished jumps.

import { choice, legend, readout, slider } from "controls";
import { Mixture, solve } from "exact";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { Random } from "random";

const ROWS = 150; // points of each cloud
const PIECE = 12; // points whose guided path is computed in one frame
const WAYS = [["path", "data", "Guided path"], ["student", "first", "Student"], ["mixed", "second", "Guided jumps"]];

export default function make(root, data) {
  const law = new Mixture(data.law.ring);
  const classes = data.law.classes.map((components) => law.given(components));
  const flow = new FlowMap(data.guidance.flow);
  const [low, high] = data.guidance.scales;
  const noise = new Random(4).normals(2 * ROWS);
  const finished = new Map(); // the exact jumps of the cloud, for the class and for the whole law
  const ends = new Float64Array(2 * ROWS).fill(NaN); // of the guided paths; what is not known yet is not drawn
  let fresh = 0; // so many of them belong to the present class and scale
  let frame = null;
  let told = null; // the student's jumps of the cloud
  let now = null;

  const pictures = element("div", { class: "pictures" });
  const clouds = element("div", { class: "pictures three" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const plane = new Plane(pictures, { x: [-3.2, 3.2], y: [-2.72, 2.72], ratio: 0.85, label: "The guided path of a point from noise to data, with two ways to jump there" });
  pictures.append(clouds);
  const small = WAYS.map(([key, tone, name]) => {
    const box = element("div", {}, element("h3", {}, name));
    clouds.append(box);
    return [key, tone, new Plane(box, { x: [-3.2, 3.2], y: [-3.2, 3.2], label: `${name}: a cloud of samples` })];
  });
  const point = plane.handle({ at: [0.7, -0.3], name: "the noise", colour: "text", onMove: movePoint });

  const scale = slider(controls, { name: "guidance scale w", min: low, max: high, step: 0.1, value: 2, format: (w) => w.toFixed(1), onInput: update });
  const label = choice(controls, { name: "Class", options: classes.map((_, c) => [c, "ABC"[c]]), value: 0, onInput: update });
  legend(controls, [
    ["data", "line", "guided path: v_u + w (v_c − v_u) at every step"],
    ["first", "line", "student told w: one jump"],
    ["second", "dash", "finished jumps guided: F_u + w (F_c − F_u)"],
    ["data", "line", "heavy rings: data of the class"],
  ]);
  const say = readout(controls);

  /** v_u + w (v_c - v_u). */
  function guided(x, t) {
    const [all, own] = [law.velocity(x, t), classes[label.value].velocity(x, t)];
    return all.map((u, i) => u + scale.value * (own[i] - u));
  }

  const mix = (all, own) => all.map((u, i) => u + scale.value * (own[i] - u));

  function movePoint() {
    const x = Float64Array.from(point.at);
    const path = [];
    const end = solve(guided, x, 1, 0, { visit: (y) => path.push([y[0], y[1]]) });
    const [all, own] = [law.jump(x, 1, 0), classes[label.value].jump(x, 1, 0)];
    const student = flow.jump(x, 1, 0, label.value, scale.value);
    const mixed = mix(all, own);
    now = { x: [...x], w: scale.value, label: label.value, path, end: [...end], student: [...student], all: [...all], own: [...own], mixed: [...mixed] };
    saySo();
    plane.redraw();
  }

  function saySo() {
    const { end, student, mixed } = now;
    const off = (to) => Math.hypot(to[0] - end[0], to[1] - end[1]).toFixed(2);
    say(`From the end of the guided path at w = ${scale.value.toFixed(1)}: the student's jump is ${off(student)} away, the guided finished jump ${off(mixed)}.${cloudSays()}`);
  }

  /** The share of each cloud within three standard deviations of a group of the class. */
  function cloudSays() {
    if (fresh < ROWS) return "";
    const own = classes[label.value];
    const inside = (cloud) => {
      let count = 0;
      for (let n = 0; n < 2 * ROWS; n += 2) {
        count += own.means.some(([a, b], k) => Math.hypot(cloud[n] - a, cloud[n + 1] - b) < 3 * own.stds[k]);
      }
      return `${Math.round((100 * count) / ROWS)}%`;
    };
    const cloud = clouded();
    return ` Of ${ROWS} samples each, near the data of the class: ${inside(cloud.path)} of guided paths, ${inside(cloud.student)} of the student, ${inside(cloud.mixed)} of guided jumps.`;
  }

  /** The clouds at the present class and scale. */
  function clouded() {
    const known = finished.get(label.value);
    return { path: ends, student: told, mixed: known ? mix(known.all, known.own) : new Float64Array(0) };
  }

  /** Compute the cloud of guided paths, and once for a class its finished jumps, some points in each frame. */
  function piece() {
    frame = null;
    const key = label.value;
    if (!finished.has(key)) finished.set(key, { all: new Float64Array(2 * ROWS).fill(NaN), own: new Float64Array(2 * ROWS).fill(NaN) });
    const known = finished.get(key);
    const rows = noise.slice(2 * fresh, 2 * (fresh + PIECE));
    if (!(known.rows >= ROWS)) {
      known.all.set(solve((y, t) => law.velocity(y, t), rows, 1, 0, { steps: 24 }), 2 * fresh);
      known.own.set(solve((y, t) => classes[key].velocity(y, t), rows, 1, 0, { steps: 24 }), 2 * fresh);
      known.rows = Math.min(fresh + PIECE, ROWS);
    }
    ends.set(solve(guided, rows, 1, 0, { steps: 24 }), 2 * fresh);
    fresh = Math.min(fresh + PIECE, ROWS);
    for (const [, , picture] of small) picture.redraw();
    if (fresh < ROWS) frame = requestAnimationFrame(piece);
    else saySo();
  }

  function update() {
    fresh = 0;
    told = flow.jump(noise, 1, 0, label.value, scale.value);
    movePoint();
    frame ??= requestAnimationFrame(piece);
  }

  function drawClass(picture, size) {
    for (const [c, own] of classes.entries()) {
      const chosen = c === label.value;
      own.means.forEach((mean, k) => {
        const radius = (own.stds[k] * 2 * picture.width) / 6.4;
        picture.ring(mean, { colour: "data", size: radius, width: chosen ? 2.5 : 1 });
        if (chosen && size > 1) picture.ring(mean, { colour: "data", size: radius / 2, width: 1.5 });
      });
      const middle = own.means[0].map((value, i) => (value + own.means[1][i]) * 0.5 * (size > 1 ? 1.6 : 1));
      if (size > 1) picture.text(middle, "ABC"[c], { colour: chosen ? "text" : "muted", shift: [0, 5], align: "center", size: 18 });
    }
  }

  plane.onDraw(() => {
    drawClass(plane, 2);
    plane.line([now.all, now.own, now.mixed], { colour: "second", width: 2.5, dash: [7, 5] });
    plane.ring(now.all, { colour: "second", size: 5 });
    plane.ring(now.own, { colour: "second", size: 5 });
    plane.ring(now.mixed, { colour: "second", size: 6, fill: true });
    plane.line(now.path, { colour: "data", width: 4 });
    plane.ring(now.end, { colour: "data", size: 8 });
    plane.arrow(now.x, now.student, { colour: "first", width: 3 });
    plane.text(now.x, "noise", { shift: [16, -12] });
    plane.text(now.student, "student", { colour: "first", shift: [10, -10] });
    plane.text(now.all, "F_u", { colour: "second", shift: [8, 18] });
    plane.text(now.own, "F_c", { colour: "second", shift: [8, 18] });
    plane.text(now.mixed, "guided jump", { colour: "second", shift: [-10, 5], align: "right" });
  });
  for (const [key, tone, picture] of small) {
    picture.onDraw(() => {
      drawClass(picture, 1);
      picture.dots(clouded()[key], { colour: tone, size: 1.8, alpha: 0.7 });
    });
  }
  update();
  return { state: () => ({ ...now, fresh, cloud: Object.fromEntries(Object.entries(clouded()).map(([key, rows]) => [key, [...rows]])), noise: [...noise] }) };
}

// A run in the plane: the instrument of chapter 2 for its own map. Without a closed form the path follows its own velocity.

import { legend, menu, readout, slider } from "controls";
import { LEGEND, distances, drawSeen, seen } from "instruments/map";
import { FlowMap } from "networks";
import { Plane, element } from "plane";
import { extent } from "walks";

export default function make(root, data) {
  const runs = data.runs.map((run) => ({ ...run, map: new FlowMap(run.flow) }));
  const pictures = element("div", { class: runs.length > 1 ? "pictures pair" : "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const range = extent(runs.map((run) => run.real));
  let x = [0.3 * range.x[1], 0.5 * range.y[1]];

  const planes = runs.map((run) => {
    const box = element("div", {}, element("h3", {}, run.name));
    pictures.append(box);
    const plane = new Plane(box, { ...range, label: `A point on its path and the jump of the flow map of ${run.name}` });
    const name = `the point x at time s, of ${run.name}`;
    return Object.assign(plane, { point: plane.handle({ at: x, name, colour: "text", onMove: moved }) });
  });
  const fixed = (name) => runs.map((run) => run.map[name]).find((time) => time !== null) ?? null;
  const [only, end] = [fixed("source"), fixed("target")];
  const whole = only === null && end === null; // every map has a velocity
  const source = slider(controls, { name: "s, the time of the point", min: 0.02, max: 1, value: only ?? 1, onInput: update });
  const target = slider(controls, { name: "t, where to jump", min: 0, max: 1, value: end ?? 0, onInput: update });
  source.input.disabled = only !== null;
  target.input.disabled = end !== null;
  const steps = whole && slider(controls, { name: "Euler steps", min: 1, max: 64, step: 1, value: 4, format: String, onInput: update });
  const names = runs.map((run) => run.classes).find(Boolean) ?? null;
  const label = names && menu(controls, { name: "class", options: names.map((name, i) => [i, name]), value: 0, onInput: update });
  const shown = LEGEND.map(([tone, mark, words]) => [tone, mark, words.replace("true path of the point", "path of the map's own velocity")]);
  legend(controls, whole ? shown : shown.slice(2, 3));
  const say = readout(controls);
  let now = [];

  function moved(at) {
    x = at;
    for (const plane of planes) plane.point.at = at;
    update();
  }

  function update() {
    const [s, t, start] = [source.value, target.value, Float64Array.from(x)];
    now = runs.map(({ map }) =>
      whole ? seen(map, map, start, s, t, steps.value, label?.value) : { jump: [...map.jump(start, s, t, label?.value)] },
    );
    const sentence = (run, i) => `${run.name}: ${whole ? `from the end of its path ${distances(now[i], steps.value)}` : `the jump ends at ${now[i].jump.map((value) => value.toFixed(2)).join(", ")}`}.`;
    say(runs.map(sentence).join(" "));
    for (const plane of planes) plane.redraw();
  }

  planes.forEach((plane, i) =>
    plane.onDraw(() => {
      plane.dots(Float64Array.from(runs[i].real), { colour: "data", size: 1.6, alpha: 0.45 });
      drawSeen(plane, x, now[i]);
    }),
  );
  update();
  return { state: () => ({ x, s: source.value, t: target.value, label: label ? label.value : null, runs: now }) };
}

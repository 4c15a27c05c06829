// A run whose states were computed ahead: images, series, texts, points on manifolds, and networks that the page does not evaluate.

import { choice, player, readout, slider } from "controls";
import { Plane, element } from "plane";

export default function make(root, data) {
  const pictures = element("div", { class: "pictures" });
  const controls = element("div", { class: "controls" });
  root.append(pictures, controls);
  const views = data.runs.map((run) => view(run, pictures));
  const ways = data.runs.map((run) => run.way).filter(Boolean);
  const count = Math.max(0, ...ways.map((way) => way.times.length));
  const time =
    count > 0 &&
    slider(controls, {
      name: "time t, from noise to data", min: 0, max: count - 1, step: 1, value: 0, format: (k) => ways[0].times[k].toFixed(1), onInput: update,
    });
  if (time) player(controls, { control: time, seconds: 4 });
  const samplers = [...new Set(data.runs.flatMap((run) => run.samples.map(({ name }) => name)))];
  const sampler = choice(controls, { name: "samples by", options: samplers.map((name) => [name, name]), value: samplers[0], onInput: update });
  const say = readout(controls);

  function update() {
    const k = time ? time.value : 0;
    for (const show of views) show(k, sampler.value);
    const way = time ? `At t = ${ways[0].times[k].toFixed(1)}: the states on their way, and the end of one jump from there. ` : "";
    say(`${way}Beneath: samples by ${sampler.value}, from the same noise, and real data.`);
  }

  update();
  return { state: () => ({ k: time ? time.value : null, sampler: sampler.value, runs: data.runs }) };
}

/** The panels of a run; returns a function of the position on the way and the sampler. */
function view(run, parent) {
  parent.append(element("h3", {}, run.name));
  const row = element("div", { class: "pictures two" });
  parent.append(row);
  const panel = (title) => {
    const words = element("h4", {}, title);
    const box = element("div", {}, words);
    row.append(box);
    return { words, show: KINDS[run.kind](box, run, title) };
  };
  const [state, jump] = run.way ? [panel("on their way"), panel("one jump from there")] : [];
  const sample = panel("samples");
  panel("real data").show(run.real);
  return (k, sampler) => {
    state?.show(run.way.states[k]);
    jump?.show(run.way.jumps[k]);
    const found = run.samples.find(({ name }) => name === sampler);
    sample.words.textContent = found ? sampler : `${sampler}: not for this run`;
    if (found) sample.show(found.state);
  };
}

/** How states of a kind are shown: a function of the place, which returns a function of the state. */
const KINDS = {
  pictures(box, run, title) {
    const picture = element("picture");
    const night = element("source", { media: "(prefers-color-scheme: dark)" });
    const image = element("img", { alt: `${run.name}: ${title}`, class: run.crisp ? "crisp" : "" });
    picture.append(night, image);
    box.append(picture);
    return ({ source, dark }) => {
      night.srcset = dark || source;
      image.src = source;
    };
  },

  points(box, run, title) {
    const [low, high] = run.range;
    const plane = new Plane(box, { x: [low, high], y: [low, high], label: `${run.name}: ${title}` });
    return (points) => plane.onDraw(() => plane.dots(points, { colour: "first", size: 2, alpha: 0.7 }));
  },

  series(box, run, title) {
    const [low, high] = run.range;
    const plane = new Plane(box, { x: [0, 1], y: [low, high], ratio: 0.7, label: `${run.name}: ${title}`, xName: "position" });
    const tones = ["first", "second", "third", "fourth", "text"];
    return (rows) =>
      plane.onDraw(() => {
        rows.forEach((row, n) => plane.line(row.map((value, i) => [i / (row.length - 1), value]), { colour: tones[n % tones.length], width: 1.6 }));
      });
  },

  texts(box) {
    const lines = element("pre");
    box.append(lines);
    return (texts) => {
      lines.textContent = texts.join("\n");
    };
  },
};

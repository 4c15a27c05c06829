// Controls beside the pictures: sliders, choices, a play button and numbers. All of them work with the keyboard.

import { element } from "plane";

const still = matchMedia("(prefers-reduced-motion: reduce)");
let count = 0;

/** A slider. Returns {value, set(value)}; `set` also tells `onInput`. */
export function slider(parent, { name, min, max, step = 0.01, value, format = (v) => v.toFixed(2), onInput = () => {} }) {
  const id = `control-${count++}`;
  const input = element("input", { type: "range", id, min, max, step, value });
  const shown = element("output", { for: id });
  parent.append(element("div", { class: "control" }, element("label", { for: id }, name), shown, input));
  const made = {
    input,
    get value() {
      return Number(input.value);
    },
    set(next) {
      input.value = next;
      show();
      onInput(made.value);
    },
  };
  const show = () => {
    shown.textContent = format(made.value);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    show();
    onInput(made.value);
  });
  show();
  return made;
}

/** One of a few values, as buttons. Returns {value, set(value)}. */
export function choice(parent, { name, options, value, onInput = () => {} }) {
  const group = element("fieldset", { class: "control choice" }, element("legend", {}, name));
  const key = `choice-${count++}`;
  const inputs = options.map(([each, label]) => {
    const input = element("input", { type: "radio", name: key, value: String(each) });
    input.checked = each === value;
    input.addEventListener("change", () => pick(each));
    group.append(element("label", {}, input, element("span", {}, label)));
    return [each, input];
  });
  parent.append(group);
  const made = { value, set: (next) => inputs.find(([each]) => each === next)[1].click() };
  function pick(next) {
    made.value = next;
    onInput(next);
  }
  return made;
}

/** A list to choose from, for many values: [value, name] or [value, name, group]. Returns {value, set(value)}. */
export function menu(parent, { name, options, value, onInput = () => {} }) {
  const id = `control-${count++}`;
  const select = element("select", { id });
  const groups = new Map();
  for (const [each, label, group] of options) {
    if (group && !groups.has(group)) groups.set(group, select.appendChild(element("optgroup", { label: group })));
    (groups.get(group) ?? select).append(element("option", { value: String(each) }, label));
  }
  select.value = String(value);
  parent.append(element("div", { class: "control" }, element("label", { for: id }, name), select));
  const made = {
    value,
    set(next) {
      select.value = String(next);
      select.dispatchEvent(new Event("change"));
    },
  };
  select.addEventListener("change", () => {
    made.value = options.find(([each]) => String(each) === select.value)[0];
    onInput(made.value);
  });
  return made;
}

/** A button. */
export function button(parent, { name, onPress }) {
  const made = element("button", { type: "button", class: "press" }, name);
  made.addEventListener("click", onPress);
  parent.append(made);
  return made;
}

/**
 * A play button that moves a slider from its minimum to its maximum. A person who asked the
 * system for reduced motion gets the end at once.
 */
export function player(parent, { name = "Play", control, seconds = 3 }) {
  const { input } = control;
  const [low, high] = [Number(input.min), Number(input.max)];
  let frame = null;
  const made = button(parent, { name, onPress: () => (frame ? stop() : play()) });
  input.addEventListener("pointerdown", () => stop());
  function stop() {
    cancelAnimationFrame(frame);
    frame = null;
    made.textContent = name;
  }
  function play() {
    const at = (part) => low + part * (high - low);
    if (still.matches) return control.set(at(1));
    made.textContent = "Stop";
    let began = null;
    const next = (now) => {
      began ??= now;
      const part = Math.min(1, (now - began) / 1000 / seconds);
      control.set(at(part));
      if (part < 1) frame = requestAnimationFrame(next);
      else stop();
    };
    frame = requestAnimationFrame(next);
  }
  return { play, stop };
}

/** A line of numbers under a picture, read out by screen readers when it changes. Returns a function that sets it. */
export function readout(parent) {
  const line = element("p", { class: "readout", "aria-live": "polite" });
  parent.append(line);
  return (text) => {
    line.textContent = text;
  };
}

/** A legend: [[colour, "dot" | "line" | "dash", words], ...]. */
export function legend(parent, entries) {
  const list = element("ul", { class: "legend" });
  for (const [tone, mark, words] of entries) {
    list.append(element("li", {}, element("span", { class: `mark ${mark}`, style: `--tone: var(--${tone})` }), words));
  }
  parent.append(list);
  return list;
}

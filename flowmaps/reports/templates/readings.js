// Values of charts: point at a chart, or focus it and use the arrow keys, and a label shows the nearest value.
// data-places of a picture holds one entry for each axis: its frame, and the places (x, heights, text) in it.

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// The place nearest to a point; for curves only the distance along x counts.
function nearest(axis, width, height, x, y) {
  const away = ([across, [up]]) => Math.hypot((across - x) * width, axis.across ? 0 : (up - y) * height);
  return axis.stops.reduce((best, stop) => (away(stop) < away(best) ? stop : best));
}

// The nearest place in a direction; places to the side of it count as further away.
function next(axis, from, [right, above]) {
  let best = from, least = Infinity;
  for (const stop of axis.stops) {
    const x = stop[0] - from[0], y = axis.across ? 0 : stop[1][0] - from[1][0];
    const ahead = x * right + y * above, aside = Math.abs(x * above) + Math.abs(y * right);
    if (ahead > 1e-6 && ahead + 4 * aside < least) [best, least] = [stop, ahead + 4 * aside];
  }
  return best;
}

function made(kind, parent) {
  const element = document.createElement("div");
  element.className = kind;
  parent.append(element);
  return element;
}

function reader(shot, axis) {
  const area = made("reader", shot);
  const [left, top, width, height] = axis.frame.map((share) => `${100 * share}%`);
  Object.assign(area.style, { left, top, width, height });
  const label = made("value", area);
  let chosen = null;

  function show(stop) {
    chosen = stop;
    area.querySelectorAll(".mark").forEach((mark) => mark.remove());
    const [x, heights, text] = stop;
    if (axis.across) Object.assign(made("mark line", area).style, { left: `${100 * x}%` });
    for (const y of heights) {
      const mark = made(axis.cell.length ? "mark cell" : "mark dot", area);
      Object.assign(mark.style, { left: `${100 * x}%`, bottom: `${100 * y}%` });
      if (axis.cell.length) Object.assign(mark.style, { width: `${100 * axis.cell[0]}%`, height: `${100 * axis.cell[1]}%` });
    }
    label.textContent = text;
    const side = x < 0.5 ? { left: `calc(${100 * x}% + 14px)`, right: "auto" } : { right: `calc(${100 - 100 * x}% + 14px)`, left: "auto" };
    const end = axis.across || heights[0] > 0.5 ? { top: axis.across ? "0" : `${100 - 100 * heights[0]}%`, bottom: "auto" } : { bottom: `${100 * heights[0]}%`, top: "auto" };
    Object.assign(label.style, side, end);
    area.setAttribute("aria-valuetext", text.replaceAll("\n", ", "));
    area.setAttribute("aria-valuenow", axis.stops.indexOf(stop));
    area.classList.add("reading");
  }

  function point(event) {
    const box = area.getBoundingClientRect();
    show(nearest(axis, box.width, box.height, (event.clientX - box.left) / box.width, (box.bottom - event.clientY) / box.height));
  }

  const attributes = { tabindex: 0, role: "slider", "aria-label": "Values of the chart, by the arrow keys",
    "aria-valuemin": 0, "aria-valuemax": axis.stops.length - 1, "aria-valuenow": 0 };
  for (const [name, value] of Object.entries(attributes)) area.setAttribute(name, value);
  area.addEventListener("pointermove", point);
  area.addEventListener("pointerdown", point);
  area.addEventListener("pointerleave", () => document.activeElement === area || area.classList.remove("reading"));
  area.addEventListener("focus", () => chosen && !area.matches(":focus-visible") || show(chosen ?? axis.stops[0]));
  area.addEventListener("blur", () => area.classList.remove("reading"));
  area.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    show(next(axis, chosen ?? axis.stops[0], KEYS[event.key]));
  });
}

for (const shot of document.querySelectorAll("[data-places]")) {
  const axes = JSON.parse(shot.dataset.places).filter((axis) => axis.stops.length);
  axes.forEach((axis) => reader(shot, axis));
  if (!axes.length) continue;
  const hint = document.createElement("p");
  hint.className = "note hint";
  hint.textContent = "Point at the chart to read its values.";
  shot.after(hint);
}

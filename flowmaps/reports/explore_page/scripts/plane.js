// A plane to draw in: a canvas with coordinates, and handles that a mouse, a finger or the arrow keys move.

const dark = matchMedia("(prefers-color-scheme: dark)");
const colours = new Map();
dark.addEventListener("change", () => colours.clear());

/** The colours of the page, read from its style sheet; they follow light and dark mode. */
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || name);
  return colours.get(name);
}

/** An element with attributes and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export class Plane {
  /**
   * @param {HTMLElement} parent where the plane is put
   * @param {{x?: number[], y?: number[], ratio?: number, label: string, xName?: string, yName?: string}} options
   *   x and y: ranges of the coordinates, from left to right and from bottom to top (either may run backwards);
   *   ratio: height over width; label: what the picture shows, for screen readers; names of the axes.
   */
  constructor(parent, { x = [-2.6, 2.6], y = [-2.6, 2.6], ratio = 1, label, xName = "", yName = "" }) {
    Object.assign(this, { x, y, ratio, xName, yName, handles: [], draw: () => {} });
    this.canvas = element("canvas", { role: "img", "aria-label": label });
    this.root = element("div", { class: "plane" }, this.canvas);
    parent.append(this.root);
    this.context = this.canvas.getContext("2d");
    new ResizeObserver(() => this.resize()).observe(this.root);
    dark.addEventListener("change", () => this.redraw());
    this.resize();
  }

  /** Set the function that draws; it is called at the next frame and whenever the size or the colours change. */
  onDraw(draw) {
    this.draw = draw;
    this.redraw();
  }

  /** Draw again at the next frame. */
  redraw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
      this.context.clearRect(0, 0, this.width, this.height);
      this.draw(this);
      this.axes();
      for (const handle of this.handles) handle.place();
    });
  }

  resize() {
    const width = this.root.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    this.height = Math.round(width * this.ratio);
    this.scale = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(width * this.scale);
    this.canvas.height = Math.round(this.height * this.scale);
    this.canvas.style.height = `${this.height}px`;
    this.redraw();
  }

  /** Pixels of a point, and back. */
  pixel([x, y]) {
    const [a, b] = [this.x, this.y];
    return [((x - a[0]) / (a[1] - a[0])) * this.width, (1 - (y - b[0]) / (b[1] - b[0])) * this.height];
  }

  point([left, top]) {
    const [a, b] = [this.x, this.y];
    return [a[0] + (left / this.width) * (a[1] - a[0]), b[0] + (1 - top / this.height) * (b[1] - b[0])];
  }

  axes() {
    const { context, width, height } = this;
    context.strokeStyle = colour("rule");
    context.lineWidth = 1;
    context.strokeRect(0.5, 0.5, width - 1, height - 1);
    context.fillStyle = colour("muted");
    context.font = "13px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(this.xName, width - 8, height - 8);
    context.textAlign = "left";
    context.fillText(this.yName, 8, 18);
  }

  /** Dots at points (a flat array of pairs). */
  dots(points, { colour: name = "data", size = 2, alpha = 1 } = {}) {
    const { context } = this;
    context.fillStyle = colour(name);
    context.globalAlpha = alpha;
    context.beginPath();
    for (let n = 0; n < points.length; n += 2) {
      const [left, top] = this.pixel([points[n], points[n + 1]]);
      context.moveTo(left + size, top);
      context.arc(left, top, size, 0, 2 * Math.PI);
    }
    context.fill();
    context.globalAlpha = 1;
  }

  /** Crosses at points (a flat array of pairs), `size` pixels to each side. */
  crosses(points, { colour: name = "second", size = 3, width = 1.6, alpha = 1 } = {}) {
    const { context } = this;
    context.strokeStyle = colour(name);
    context.globalAlpha = alpha;
    context.lineWidth = width;
    context.beginPath();
    for (let n = 0; n < points.length; n += 2) {
      const [left, top] = this.pixel([points[n], points[n + 1]]);
      for (const way of [-1, 1]) {
        context.moveTo(left - size, top - way * size);
        context.lineTo(left + size, top + way * size);
      }
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** A line through points (a list of pairs). */
  line(points, { colour: name = "text", width = 2, dash = [], alpha = 1 } = {}) {
    const { context } = this;
    context.strokeStyle = colour(name);
    context.globalAlpha = alpha;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dash);
    context.beginPath();
    points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...this.pixel(point)));
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** An arrow from one point to another. */
  arrow(from, to, { colour: name = "text", width = 2.5, dash = [] } = {}) {
    this.line([from, to], { colour: name, width, dash });
    const [[a, b], [c, d]] = [this.pixel(from), this.pixel(to)];
    const length = Math.hypot(c - a, d - b);
    if (length < 3) return;
    const angle = Math.atan2(d - b, c - a);
    const head = Math.min(11, length);
    const { context } = this;
    context.fillStyle = colour(name);
    context.beginPath();
    context.moveTo(c, d);
    for (const turn of [-0.42, 0.42]) context.lineTo(c - head * Math.cos(angle + turn), d - head * Math.sin(angle + turn));
    context.fill();
  }

  /** A ring or a filled disc around a point, `size` in pixels. */
  ring(at, { colour: name = "text", size = 6, width = 2.5, fill = false } = {}) {
    const { context } = this;
    context.beginPath();
    context.arc(...this.pixel(at), size, 0, 2 * Math.PI);
    context[fill ? "fillStyle" : "strokeStyle"] = colour(name);
    context.lineWidth = width;
    context[fill ? "fill" : "stroke"]();
  }

  /** A word beside a point; `shift` is in pixels. */
  text(at, words, { colour: name = "text", shift = [8, -8], align = "left", size = 14 } = {}) {
    const { context } = this;
    const [left, top] = this.pixel(at);
    context.font = `${size}px system-ui, sans-serif`;
    context.textAlign = align;
    context.lineWidth = 4;
    context.strokeStyle = colour("page"); // an edge, so that words are readable on dots and lines
    context.strokeText(words, left + shift[0], top + shift[1]);
    context.fillStyle = colour(name);
    context.fillText(words, left + shift[0], top + shift[1]);
  }

  /** Shade cells: `values` (ny rows from the bottom, of nx numbers in 0..1) fill the plane in the colours of amounts. */
  heat(values, nx, ny) {
    const { context, width, height } = this;
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) {
        const value = values[j * nx + i];
        if (!Number.isFinite(value)) continue;
        context.fillStyle = shade(value);
        const [left, top] = [Math.floor((i / nx) * width), Math.floor((1 - (j + 1) / ny) * height)];
        context.fillRect(left, top, Math.ceil(width / nx) + 1, Math.ceil(height / ny) + 1);
      }
    }
  }

  /**
   * A handle: a point that a person drags, or moves with the arrow keys.
   * @param {{at: number[], name: string, colour?: string, onMove: (at: number[]) => void, limit?: (at: number[]) => number[]}} options
   */
  handle(options) {
    const made = new Handle(this, options);
    this.handles.push(made);
    return made;
  }

  /** Call `onPoint` with the coordinates wherever a pointer is over the plane, and with null when it leaves. */
  onHover(onPoint) {
    this.canvas.addEventListener("pointermove", (event) => onPoint(this.point([event.offsetX, event.offsetY])));
    this.canvas.addEventListener("pointerleave", () => onPoint(null));
  }
}

class Handle {
  constructor(plane, { at, name, colour: tone = "accent", onMove, limit = null }) {
    Object.assign(this, { plane, at, name, onMove, limit });
    this.button = element("button", { class: "handle", type: "button", style: `--tone: var(--${tone})` });
    plane.root.append(this.button);
    this.button.addEventListener("pointerdown", (event) => this.button.setPointerCapture(event.pointerId));
    this.button.addEventListener("pointermove", (event) => {
      if (!this.button.hasPointerCapture(event.pointerId)) return;
      const box = plane.canvas.getBoundingClientRect();
      this.move(plane.point([event.clientX - box.left, event.clientY - box.top]));
    });
    this.button.addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!turn) return;
      event.preventDefault();
      const step = event.shiftKey ? 0.1 : 0.02;
      this.move(this.at.map((value, i) => value + turn[i] * step * ([plane.x, plane.y][i][1] - [plane.x, plane.y][i][0])));
    });
    this.place();
  }

  /** Move the point, within the plane, and tell it. */
  move(to) {
    const ranges = [this.plane.x, this.plane.y];
    const inside = to.map((value, i) => Math.min(Math.max(value, Math.min(...ranges[i])), Math.max(...ranges[i])));
    this.at = this.limit ? this.limit(inside) : inside;
    this.onMove(this.at);
    this.plane.redraw();
  }

  place() {
    if (!this.plane.width) return;
    const [left, top] = this.plane.pixel(this.at);
    this.button.style.transform = `translate(${left}px, ${top}px)`;
    const where = this.at.map((value) => value.toFixed(2)).join(", ");
    this.button.setAttribute("aria-label", `${this.name}, at ${where}; arrow keys move it`);
  }
}

// cividis, in even steps from dark to bright: readable with colour blindness
const SHADES = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

/** The colour of an amount between 0 and 1. */
export function shade(value) {
  return SHADES[Math.min(SHADES.length - 1, Math.max(0, Math.floor(value * SHADES.length)))];
}

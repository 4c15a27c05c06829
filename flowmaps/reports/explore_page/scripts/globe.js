// A globe seen from far away, that a mouse, a finger or the arrow keys turn.

import { Plane, colour } from "plane";

const RADIANS = Math.PI / 180;

/** Unit vectors of latitudes and longitudes in tenths of degrees, one after the other. */
export function vectors(tenths) {
  const out = new Float64Array((tenths.length / 2) * 3);
  for (let n = 0; n < tenths.length / 2; n++) {
    const [latitude, longitude] = [tenths[2 * n], tenths[2 * n + 1]].map((value) => (value / 10) * RADIANS);
    out[3 * n] = Math.cos(latitude) * Math.cos(longitude);
    out[3 * n + 1] = Math.cos(latitude) * Math.sin(longitude);
    out[3 * n + 2] = Math.sin(latitude);
  }
  return out;
}

/** The direction from which several globes are seen, and what to do when it changes. */
export class View {
  constructor(latitude, longitude) {
    Object.assign(this, { latitude, longitude, globes: [] });
  }

  turn(east, north) {
    this.longitude = ((this.longitude - east + 540) % 360) - 180;
    this.latitude = Math.max(-90, Math.min(90, this.latitude - north));
    for (const globe of this.globes) globe.redraw();
  }

  /** [x, y, depth] of each vector, as a flat array: to the right, up, and towards the reader. */
  seen(points) {
    const [a, b] = [this.longitude * RADIANS, this.latitude * RADIANS];
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const out = new Float64Array(points.length);
    for (let n = 0; n < points.length; n += 3) {
      const [x, y, z] = [points[n], points[n + 1], points[n + 2]];
      const ahead = ca * x + sa * y;
      out[n] = ca * y - sa * x;
      out[n + 1] = cb * z - sb * ahead;
      out[n + 2] = cb * ahead + sb * z;
    }
    return out;
  }
}

export class Globe extends Plane {
  /** @param {{view: View, coast: Float64Array[], label: string}} options the globes of a view turn together */
  constructor(parent, { view, coast, label }) {
    super(parent, { x: [-1.03, 1.03], y: [-1.03, 1.03], label });
    Object.assign(this, { view, coast });
    view.globes.push(this);
    const { canvas } = this;
    canvas.classList.add("globe");
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-label", `${label}; drag or arrow keys turn it`);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.held = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.held || !canvas.hasPointerCapture(event.pointerId)) return;
      const degrees = 115 / this.width; // a point in the middle of the globe stays under the pointer
      view.turn((event.clientX - this.held[0]) * degrees, -(event.clientY - this.held[1]) * degrees);
      this.held = [event.clientX, event.clientY];
    });
    canvas.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      view.turn(10 * way[0], 10 * way[1]);
    });
  }

  /** The edge of the globe in place of a frame. */
  axes() {
    this.ring([0, 0], { colour: "muted", size: this.width / 2.06, width: 1 });
  }

  land() {
    const { context } = this;
    context.strokeStyle = colour("muted");
    context.lineWidth = 1;
    context.beginPath();
    for (const line of this.coast) {
      const seen = this.view.seen(line);
      let drawn = false;
      for (let n = 0; n < seen.length; n += 3) {
        const here = seen[n + 2] > 0;
        if (here) context[drawn ? "lineTo" : "moveTo"](...this.pixel([seen[n], seen[n + 1]]));
        drawn = here;
      }
    }
    context.stroke();
  }

  /** The points of the near side, as pairs for `dots`. */
  near(points) {
    const seen = this.view.seen(points);
    const found = [];
    for (let n = 0; n < seen.length; n += 3) if (seen[n + 2] > 0) found.push(seen[n], seen[n + 1]);
    return found;
  }
}

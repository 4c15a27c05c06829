// Flow maps in the page: the forward pass of fm.networks.MLP, written out, and the flow map around it.
//
// Points are flat arrays: n points of D numbers are a Float64Array of n D numbers. Times are numbers, the same for all
// points of a call. As flowmaps/networks/mlp.py and flowmaps/flow_map.py; the records are from networks.py.

import { denoised, named } from "paths";

const silu = (x) => x / (1 + Math.exp(-x));

/** Bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** The number of a 16-bit float. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

/** The weights of a record by name, each a Float64Array. */
function weights(network) {
  const buffer = bytes(network.weights).buffer;
  const all = network.bits === 16 ? Float64Array.from(new Uint16Array(buffer), half) : Float64Array.from(new Float32Array(buffer));
  const found = {};
  let start = 0;
  for (const [name, shape] of Object.entries(network.shapes)) {
    const size = shape.reduce((product, length) => product * length, 1);
    found[name] = all.subarray(start, start + size);
    start += size;
  }
  return found;
}

/** y = W x + b, into `out`; W has a row for each output. */
function dense(W, b, x, out) {
  const [inputs, outputs] = [x.length, out.length];
  for (let i = 0, k = 0; i < outputs; i++) {
    let sum = b[i];
    for (let j = 0; j < inputs; j++, k++) sum += W[k] * x[j];
    out[i] = sum;
  }
  return out;
}

/** x / sqrt(mean(x^2) + 1e-6), into `out`. */
function rmsNorm(x, out) {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
  const scale = 1 / Math.sqrt(sum / x.length + 1e-6);
  for (let i = 0; i < x.length; i++) out[i] = x[i] * scale;
  return out;
}

/** The features of one time: sin(w t) and cos(w t), or the time itself. As fm.networks.embeddings.Fourier and raw. */
function fourier({ frequencies, low, high }) {
  if (!frequencies) return (time) => [time];
  const step = frequencies > 1 ? Math.log(high / low) / (frequencies - 1) : 0;
  const all = Array.from({ length: frequencies }, (_, i) => low * Math.exp(i * step));
  return (time) => all.flatMap((w) => [Math.sin(w * time), Math.cos(w * time)]);
}

/** fm.networks.MLP, or a guidance-conditioned fm.students.Student of one. */
class MLP {
  constructor(record) {
    Object.assign(this, record);
    this.w = weights(record);
    this.timeFeatures = fourier(record.features);
    if (record.guidance) this.newFeatures = fourier(record.guidance);
  }

  /** The embedding of features of times by the layers of this name: linear, SiLU, linear. */
  embedded(name, seen, size) {
    const { w } = this;
    const inner = dense(w[`${name}.inner.weight`], w[`${name}.inner.bias`], Float64Array.from(seen), new Float64Array(size));
    return dense(w[`${name}.outer.weight`], w[`${name}.outer.bias`], inner.map(silu), new Float64Array(size));
  }

  /** Scale and shift of every block, at times s and t, for a label (null: the null class) and a guidance scale. */
  modulations(s, t, label, guidance) {
    const { w, width, modulate } = this;
    const size = w["modulation.weight"].length / (2 * width * this.depth);
    const found = [];
    for (const [rows, layers] of this.times) {
      let embedding;
      if (rows.length) {
        const end = this.guidance ? s : t; // a student asks its network on the diagonal, and adds s - t
        embedding = this.embedded("conditioning.time", rows.flatMap(([a, b, c]) => this.timeFeatures(a * s + b * end + c)), size);
      } else {
        embedding = Float64Array.from(w["conditioning.time.constant"]);
      }
      if (this.guidance) {
        const added = this.embedded("new", [s - t, 1 - 1 / guidance].flatMap(this.newFeatures), size);
        embedding = embedding.map((value, i) => value + added[i]);
      }
      if (this.classes !== null) {
        const row = (label ?? this.classes) * size;
        embedding = embedding.map((value, i) => value + w["conditioning.label.table.weight"][row + i]);
      }
      const all = dense(w["modulation.weight"], w["modulation.bias"], embedding.map(silu), new Float64Array(2 * width * this.depth));
      for (let i = 0; i < layers; i++) {
        const start = 2 * width * found.length;
        const parts = [all.slice(start, start + width), all.slice(start + width, start + 2 * width)];
        found.push(modulate === "rms_norm" ? parts.map((part) => rmsNorm(part, part)) : parts);
      }
    }
    return found;
  }

  /** The value at points x, at times s and t. */
  value(x, s, t, label, guidance) {
    const { w, width, size, data_std } = this;
    const modulations = this.modulations(s, t, label, guidance);
    const waves = w.waves ? w.waves.length / size : 0;
    const seen = new Float64Array(size + 2 * waves);
    const [h, normed, inner, outer] = [0, 0, 0, 0].map(() => new Float64Array(width));
    const out = new Float64Array(x.length);
    for (let n = 0; n < x.length; n += size) {
      for (let i = 0; i < size; i++) seen[i] = x[n + i] / data_std;
      for (let j = 0; j < waves; j++) {
        let phase = 0;
        for (let i = 0; i < size; i++) phase += seen[i] * w.waves[i * waves + j];
        seen[size + j] = Math.sin(phase);
        seen[size + waves + j] = Math.cos(phase);
      }
      dense(w["input.weight"], w["input.bias"], seen, h);
      for (let block = 0; block < this.depth; block++) {
        const [scale, shift] = modulations[block];
        rmsNorm(h, normed);
        for (let i = 0; i < width; i++) normed[i] = normed[i] * (1 + scale[i]) + shift[i];
        dense(w[`blocks.${block}.inner.weight`], w[`blocks.${block}.inner.bias`], normed, inner);
        for (let i = 0; i < width; i++) inner[i] = silu(inner[i]);
        dense(w[`blocks.${block}.outer.weight`], w[`blocks.${block}.outer.bias`], inner, outer);
        for (let i = 0; i < width; i++) h[i] += outer[i];
      }
      rmsNorm(h, normed);
      dense(w["output.weight"], w["output.bias"], normed, out.subarray(n, n + size));
    }
    for (let i = 0; i < out.length; i++) out[i] *= data_std;
    return out;
  }
}

/** A flow map: F, V, v and f of the library, for points at the times s (source) and t (target). */
export class FlowMap {
  constructor(record) {
    this.network = new MLP(record.network);
    this.output = record.output;
    this.path = named[record.path];
    this.curved = record.path === "sphere";
    this.source = record.source; // the only source time and the only target time of a partial map, or null
    this.target = record.target;
    this.size = record.network.size;
  }

  /** V(x, s, t), the mean of the velocity along the path from s to t. */
  averageVelocity(x, s, t, label = null, guidance = 1) {
    const value = this.network.value(x, s, t, label, guidance);
    if (this.output.kind === "endpoint") this.fromField(value, x, s, t);
    if (this.curved) tangent(x, value);
    return value;
  }

  /** Replace the denoised field D by V = a x + b D. */
  fromField(D, x, s, t) {
    if (this.output.link === "softmax") softmax(D, this.size);
    const from = Math.max(s, this.output.min_time);
    const a = this.path.sigmaSlope(from, t) / this.path.sigma(from);
    const b = this.path.alphaSlope(from, t) - this.path.alpha(from) * a;
    for (let i = 0; i < D.length; i++) D[i] = a * x[i] + b * D[i];
  }

  /** F(x, s, t) = x + (t - s) V(x, s, t), the state at time t. */
  jump(x, s, t, label = null, guidance = 1) {
    const V = this.averageVelocity(x, s, t, label, guidance);
    for (let i = 0; i < V.length; i++) V[i] *= t - s;
    return this.curved ? exponential(x, V) : V.map((step, i) => x[i] + step);
  }

  /** v(x, t) = V(x, t, t). */
  velocity(x, t, label = null) {
    return this.averageVelocity(x, t, t, label);
  }

  /** E[x_0 | x_t = x], from the velocity. */
  denoise(x, t, label = null) {
    return this.velocity(x, t, label).map((v, i) => denoised(this.path, x[i], v, t));
  }
}

/** Project vectors at points x of the sphere to its tangent planes, in place. */
function tangent(x, v) {
  for (let n = 0; n < x.length; n += 3) {
    const along = x[n] * v[n] + x[n + 1] * v[n + 1] + x[n + 2] * v[n + 2];
    for (let i = n; i < n + 3; i++) v[i] -= along * x[i];
  }
}

/** exp_x(v) on the sphere. */
export function exponential(x, v) {
  const out = new Float64Array(x.length);
  for (let n = 0; n < x.length; n += 3) {
    const angle = Math.hypot(v[n], v[n + 1], v[n + 2]);
    const along = angle < 1e-12 ? 1 : Math.sin(angle) / angle;
    for (let i = n; i < n + 3; i++) out[i] = Math.cos(angle) * x[i] + along * v[i];
    const length = Math.hypot(out[n], out[n + 1], out[n + 2]);
    for (let i = n; i < n + 3; i++) out[i] /= length;
  }
  return out;
}

/** The softmax of each row of D numbers, in place. */
export function softmax(values, D) {
  for (let n = 0; n < values.length; n += D) {
    const largest = Math.max(...values.subarray(n, n + D));
    let sum = 0;
    for (let i = n; i < n + D; i++) sum += values[i] = Math.exp(values[i] - largest);
    for (let i = n; i < n + D; i++) values[i] /= sum;
  }
}

// The slider over time: states on their way from noise to data, and the end of one jump from each.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// Numbers of 16 bits, as base64 holds them.
function numbers(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

// Images: the sprite has a row for each time, first the states and then the ends.
function images(way) {
  const sprite = way.querySelector("img"), count = Number(way.dataset.count), times = JSON.parse(way.dataset.times);
  const size = () => [sprite.naturalWidth / count / 2, sprite.naturalHeight / times.length];
  const gap = 4, tile = document.createElement("canvas"); // an image alone, so that its neighbours do not blur into it
  return {
    ready: sprite.decode(),
    draw(canvas, k, half) {
      const [width, height] = size(), scale = Math.max(1, Math.ceil(96 / height));
      canvas.width = count * (width * scale + gap) - gap;
      canvas.height = height * scale;
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      for (let i = 0; i < count; i++) {
        [tile.width, tile.height] = [width, height];
        tile.getContext("2d").drawImage(sprite, -(half * count + i) * width, -k * height);
        pen.drawImage(tile, i * (width * scale + gap), 0, width * scale, height * scale);
      }
    },
  };
}

// Points of the plane, above real data.
function points(way) {
  const states = numbers(way.dataset.states), real = numbers(way.dataset.real);
  const count = Number(way.dataset.count), unit = Number(way.dataset.unit), side = 640;
  function dots(pen, rows, radius, fill) {
    pen.fillStyle = fill;
    pen.beginPath();
    for (let i = 0; i < rows.length; i += 2) {
      const x = (rows[i] / unit) * side, y = side - (rows[i + 1] / unit) * side;
      pen.moveTo(x + radius, y);
      pen.arc(x, y, radius, 0, 2 * Math.PI);
    }
    pen.fill();
  }
  return {
    ready: Promise.resolve(),
    draw(canvas, k, half) {
      canvas.width = canvas.height = side;
      const pen = canvas.getContext("2d"), start = 2 * count * (2 * k + half);
      pen.globalAlpha = 0.5;
      dots(pen, real, 2, colour("--muted"));
      pen.globalAlpha = 1;
      dots(pen, states.subarray(start, start + 2 * count), 4.5, colour(half ? "--second" : "--accent"));
    },
  };
}

async function start(way) {
  const picture = way.dataset.states ? points(way) : images(way), times = JSON.parse(way.dataset.times);
  const slider = way.querySelector("input"), shown = way.querySelector("output"), button = way.querySelector("button");
  await picture.ready;

  function show() {
    const time = `t = ${Number(times[slider.value].toFixed(2))}`;
    way.querySelectorAll("canvas").forEach((canvas, half) => picture.draw(canvas, Number(slider.value), half));
    shown.textContent = time;
    slider.setAttribute("aria-valuetext", time);
  }

  let playing = 0;
  function stop() {
    clearInterval(playing);
    playing = 0;
    button.textContent = "Play";
  }
  function step() {
    slider.value = Number(slider.value) + 1;
    show();
    if (slider.value === slider.max) stop();
  }
  button.addEventListener("click", () => {
    if (playing) return stop();
    if (slider.value === slider.max) slider.value = 0;
    button.textContent = "Pause";
    playing = setInterval(step, 120);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  way.hidden = false;
  show();
}

document.querySelectorAll(".way").forEach(start);

// The gallery: choose an image of a grid, by the mouse or the arrow keys, and see the same sample by every sampler.

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function gallery(tabs) {
  const columns = Number(tabs.dataset.columns), count = Number(tabs.dataset.count), gap = Number(tabs.dataset.gap);
  const names = [...tabs.querySelectorAll("label")].map((label) => label.textContent);
  const grids = [...tabs.querySelectorAll(".grid")].slice(0, -1); // without real data, which belong to no sample
  const rows = Math.ceil(count / columns), wide = columns * (1 + gap) - gap, high = rows * (1 + gap) - gap;
  const beside = document.createElement("div");
  beside.className = "beside";
  beside.setAttribute("aria-live", "polite");
  tabs.after(beside);
  let chosen = 0;

  // The part of the grid with one image, in pixels of the picture.
  function crop(image, k) {
    const width = image.naturalWidth / wide, height = image.naturalHeight / high;
    return [(k % columns) * width * (1 + gap), Math.floor(k / columns) * height * (1 + gap), width, height];
  }

  function choose(k) {
    chosen = Math.max(0, Math.min(count - 1, k));
    const title = document.createElement("p");
    title.textContent = `Sample ${chosen + 1} of ${count}`;
    beside.replaceChildren(title, ...grids.map((grid, i) => {
      const image = grid.querySelector("img"), part = crop(image, chosen);
      const [figure, canvas, caption] = ["figure", "canvas", "figcaption"].map((name) => document.createElement(name));
      [canvas.width, canvas.height] = [4 * part[2], 4 * part[3]];
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(image, ...part, 0, 0, canvas.width, canvas.height);
      caption.textContent = names[i];
      figure.append(canvas, caption);
      return figure;
    }));
    for (const grid of grids) {
      const left = ((chosen % columns) * (1 + gap)) / wide, top = (Math.floor(chosen / columns) * (1 + gap)) / high;
      Object.assign(grid.querySelector(".chosen").style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 / wide}%`, height: `${100 / high}%` });
    }
  }

  for (const grid of grids) {
    const mark = document.createElement("div");
    mark.className = "chosen";
    grid.append(mark);
    grid.tabIndex = 0;
    grid.setAttribute("role", "group");
    grid.setAttribute("aria-label", "Choose an image by the arrow keys");
    grid.addEventListener("click", (event) => {
      const box = grid.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
      choose(Math.floor(((event.clientY - box.top) / box.height) * rows) * columns + column);
    });
    grid.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      const [right, down] = STEPS[event.key];
      choose(chosen + right + down * columns);
    });
  }
  Promise.all(grids.map((grid) => grid.querySelector("img").decode())).then(() => choose(0));
}

document.querySelectorAll(".tabs[data-count]").forEach(gallery);
document.querySelectorAll(".scripted").forEach((element) => { element.hidden = false; });

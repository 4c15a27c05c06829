// Pictures: each can be enlarged to the whole window, and saved as a file.

const SUFFIXES = { "image/png": "png", "image/svg+xml": "svg", "image/webp": "webp" };

const large = document.createElement("dialog");
large.setAttribute("aria-label", "The picture, enlarged");
const close = document.createElement("button");
close.textContent = "Close";
large.append(close);
large.addEventListener("click", () => large.close());
document.body.append(large);

function enlarge(image) {
  const copy = document.createElement("img");
  copy.src = image.currentSrc;
  copy.alt = image.alt;
  large.replaceChildren(copy, close);
  large.showModal();
}

// The name of a file for a picture: the letters and digits of its title.
function fileName(image, title) {
  const kind = image.src.slice(5, image.src.indexOf(";"));
  const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
  return `${name || "picture"}.${SUFFIXES[kind]}`;
}

for (const figure of document.querySelectorAll("main figure:has(> .shot)")) {
  const image = figure.querySelector("img"), title = figure.querySelector("figcaption b")?.textContent || image.alt;
  const tools = document.createElement("p"), button = document.createElement("button"), link = document.createElement("a");
  tools.className = "tools";
  button.type = "button";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", `Enlarge: ${title}`);
  button.addEventListener("click", () => enlarge(image));
  link.textContent = "Save";
  link.setAttribute("aria-label", `Save: ${title}`);
  link.download = fileName(image, title);
  link.href = image.src; // the picture for a light page
  tools.append(button, link);
  figure.append(tools);
  if (!figure.querySelector("[data-places]")) {
    image.classList.add("enlarges");
    image.addEventListener("click", () => enlarge(image));
  }
}

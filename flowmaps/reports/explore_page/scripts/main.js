// Opens the instruments of the page when they come near the window. Each is a module whose default export is
// (root, data) => {state()}: it fills the element, and `state` returns the numbers that it shows, for tests and curious people.

import { element } from "plane";

const data = JSON.parse(document.getElementById("data").textContent);
const opened = {};

/** Open an instrument, once; null if it fails, which is said in its place. */
async function open(root) {
  const name = root.dataset.instrument;
  opened[name] ??= (async () => {
    try {
      const { default: make } = await import(`instruments/${root.dataset.module ?? name}`);
      const made = await make(root, data);
      root.dataset.ready = "";
      return made;
    } catch (error) {
      root.append(element("p", { class: "failed" }, `This instrument could not be opened: ${error.message}`));
      console.info(error.stack);
      return null;
    }
  })();
  return opened[name];
}

const roots = [...document.querySelectorAll("[data-instrument]")];
const watch = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      open(target);
    }
  },
  { rootMargin: "600px" },
);
for (const root of roots) watch.observe(root);

/** In the console: `await instrument("map")` has the numbers that the instrument shows, by `state()`. */
window.instrument = (name) => open(roots.find((root) => root.dataset.instrument === name));

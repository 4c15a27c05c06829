// A list of bars that one chooses from: each row is a button with its name, a bar and a number.

import { element } from "plane";

/**
 * @param {HTMLElement} parent
 * @param {{name: string, rows: [any, string][], onPick: (key: any) => void}} options rows: a key and a name for each
 * @returns {{set(row: (key: any) => {share: number, text: string}), mark(key: any), order(keys: any[])}}
 *   set: the length of each bar, in 0..1, and its number; mark: the row that is chosen; order: the rows from the top.
 */
export function bars(parent, { name, rows, onPick }) {
  const list = element("ol", { class: "bars", "aria-label": name });
  const made = new Map();
  for (const [key, label] of rows) {
    const [bar, number] = [element("span", { class: "bar" }), element("span", { class: "amount" })];
    const button = element("button", { type: "button" }, element("span", { class: "name" }, label), bar, number);
    button.addEventListener("click", () => onPick(key));
    const item = element("li", {}, button);
    list.append(item);
    made.set(key, { item, button, bar, number });
  }
  parent.append(list);
  return {
    set(row) {
      for (const [key, { bar, number }] of made) {
        const { share, text } = row(key);
        bar.style.setProperty("--share", Math.min(1, Math.max(0, share)));
        number.textContent = text;
      }
    },
    mark(chosen) {
      for (const [key, { button }] of made) button.setAttribute("aria-pressed", String(key === chosen));
    },
    order(keys) {
      list.append(...keys.map((key) => made.get(key).item));
    },
  };
}

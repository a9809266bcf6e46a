// A few lines that every part of the page stands on. Knows the DOM; does not know Hilum.

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};

// What a part is to draw, with its words taken out of their one text.
const unpacked = (value) => (value?.words ? { ...value, words: JSON.parse(value.words) } : {});

const ICONS = {
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  redo: "M20 11a8 8 0 1 0-2.3 6.3M20 4.5V11h-6.5",
  undo: "M4 9h10.5a5.5 5.5 0 0 1 0 11H9M4 9l4.5-4.5M4 9l4.5 4.5",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
  copy: "M9 9h11v11H9zM5 15V4h11",
  clear: "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  compare: "M4 5h6v14H4zM14 5h6v14h-6zM16 10h2M16 13h2",
  pair: "M3.5 5h7v14h-7zM13.5 5h7v14h-7z",
  page: "M7 3.5h7l4 4v13H7zM14 3.5V8h4M10 12h5M10 15.5h5",
  save: "M12 4v11M7.5 11 12 15.5 16.5 11M5 19.5h14",
  close: "M6 6l12 12M18 6 6 18",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.2v.1",
  plus: "M12 5v14M5 12h14",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
};

const sketch = (className, side, d) => {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", d);
  svg.append(path);
  return svg;
};

const icon = (name) => sketch("icon", 24, ICONS[name]);

// Where the bronchi branch into a lung: its hilum.
const mark = () =>
  sketch("mark", 32, "M16 29V17M16 17c0-4-2-5-5-7s-4-4-4-7M16 17c0-4 2-5 5-7s4-4 4-7M11 10c-2 0-5 1-7 4M21 10c2 0 5 1 7 4M16 17v-6");

// A button whose label is read aloud, and shown where the style says so.
const button = (name, className, act) =>
  make("button", { type: "button", class: className, onclick: act }, icon(name), make("span", { class: "label" }));

const label = (node, text) => {
  const shown = node.querySelector(".label");
  if (shown) shown.textContent = text;
  node.setAttribute("aria-label", text);
  node.title = text;
};

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

// Nodes built of items, anew only where those have changed: a button that stays can be pressed while the page is drawn.
const filled = new WeakMap();
const fill = (node, items, build) => {
  const now = JSON.stringify(items);
  if (filled.get(node) === now) return;
  filled.set(node, now);
  node.replaceChildren(...items.map(build));
};

// Until the server has made a place for this tab, whatever a person does waits.
const opened = async () => {
  while (!document.body.dataset.hilum) await new Promise((go) => setTimeout(go, 30));
};

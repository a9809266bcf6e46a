// The stage: the image, how it gets here (drop, paste, browse, gallery), the box that a person drags over it, the map that lies
// over it, and the window that it is seen through.
// Knows pixels of the image and of the screen. Does not know the conversation.

const SMALLEST = 8; // screen pixels; anything less was a click

const picker = make("input", { type: "file", id: "hilum-file", accept: "image/*,.dcm,application/dicom", tabindex: "-1", "aria-hidden": "true" });
const dropTitle = make("b");
const dropHint = make("span");
const formats = make("small");
const drop = make(
  "button",
  { type: "button", class: "drop", onclick: () => picker.click() },
  make("span", { class: "plate" }, icon("image")), dropTitle, dropHint, formats,
);
const photo = make("img", { draggable: "false" });
const box = make("div", { class: "box", hidden: true });
const heat = make("img", { class: "layer heat", alt: "", draggable: "false", hidden: true });
const contour = make("img", { class: "layer contour", alt: "", draggable: "false", hidden: true });
const outline = make("img", { class: "layer outline", alt: "", draggable: "false", hidden: true });
const marks = make("div", { class: "marks" });
const canvas = make("div", { class: "canvas" }, photo, heat, contour, outline, box, marks);
ICONS.look = "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5M9 12h6M12 9v6";
const look = button("look", "ghost", () => document.dispatchEvent(new Event("hilum-look")));
const renew = button("plus", "ghost", () => picker.click());
const remove = button("close", "ghost", () => trigger("remove"));
const size = make("span", { class: "size" });
const hint = make("p", { class: "hint" });
const mapOn = make("button", { type: "button", class: "switch", role: "switch", onclick: () => showMap(!isMapOn) }, make("i"), make("span"));
const opacity = make("input", { type: "range", class: "slide", min: "0", max: "1", step: "0.05", value: "0.6", oninput: () => drawMap() });
const contourOn = make("button", { type: "button", class: "switch", role: "switch", onclick: () => showContour() }, make("i"), make("span"));
const mapNote = make("p", { class: "hint", id: "hilum-map-note" });
const mapTools = make("section", { class: "map", hidden: true }, make("div", { class: "maptools" }, mapOn, opacity, contourOn), mapNote);
const masksOn = make("button", { type: "button", class: "switch", role: "switch", onclick: () => showMasks() }, make("i"), make("span"));
const legend = make("ul", { class: "legend" });
const masksNote = make("p", { class: "hint" });
const maskTools = make("section", { class: "map masks", hidden: true }, make("div", { class: "masktools" }, masksOn, legend), masksNote);
const presets = make("div", { class: "chips presets" });
const sendSliders = () => sendLevels({ center: Number(center.value), width: Number(width.value) });
const row = (input) => make("label", { class: "level" }, make("span"), input, make("output"));
const [center, width] = [0, 1].map(() =>
  make("input", { type: "range", class: "slide", step: "any", oninput: () => drawLevels(), onchange: sendSliders }));
const inverted = make("button", { type: "button", class: "switch", role: "switch", onclick: () => invert() }, make("i"), make("span"));
const levelsNote = make("p", { class: "hint" });
const levels = make("details", { class: "levels", hidden: true },
  make("summary"), presets, row(center), row(width), inverted, levelsNote);
const tools = make("div", { class: "tools" }, size, make("div", { class: "space" }), look, renew, remove);
const shown = make("div", { class: "shown" }, canvas, tools, hint, mapTools, maskTools, levels);
const examplesTitle = make("h2");
const shelf = make("div", { class: "shelf" });
const gallery = make("section", { class: "gallery" }, examplesTitle, shelf);
const trouble = make("p", { class: "trouble", role: "alert", hidden: true });
const curtain = make("div", { class: "curtain", hidden: true }, make("b"));
const busy = make("div", { class: "reading", role: "status", hidden: true }, make("i"), make("span"));
element.replaceChildren(make("section", { class: "stage" }, picker, drop, shown, busy, trouble, gallery), curtain);

const say = (text) => {
  trouble.hidden = !text;
  setText(trouble, text || "");
};

const place = async (file) => {
  if (!file) return;
  if (file.size > current.most_bytes) return say(current.words.too_large);
  say("");
  busy.hidden = false;
  try {
    // The name stays here: it may say more about a person than the image does. Its stand-in is nobody else's.
    const plain = new File([file], Math.random().toString(36).slice(2), { type: "application/octet-stream" });
    const { path } = await upload(plain);
    await opened();
    trigger("place", { path });
  } catch (error) {
    busy.hidden = true;
    const [, said] = String(error?.message).match(/^HTTP (?:413|507): (.+)$/) || []; // the vault is full
    say(said || current.words.upload_lost);
  }
};

picker.addEventListener("change", () => {
  place(picker.files[0]);
  picker.value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])][0];
  if (!file) return;
  event.preventDefault();
  place(file);
});

let depth = 0;
const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
const lift = (by) => {
  depth = by ? Math.max(0, depth + by) : 0;
  curtain.hidden = depth === 0;
};
document.addEventListener("dragenter", (event) => hasFiles(event) && lift(1));
document.addEventListener("dragleave", (event) => hasFiles(event) && lift(-1));
// A place of its own for a file, such as the reference of a search, takes what is dropped there.
const isTaken = (event) => Boolean(event.target.closest?.("[data-takes-files]"));
document.addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  curtain.hidden = isTaken(event);
});
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  lift(0);
  if (!isTaken(event)) place(event.dataTransfer.files[0]);
});

// A box is drawn in screen pixels and told in pixels of the study's image.
let start = null;
const at = (event) => {
  const frame = photo.getBoundingClientRect();
  const inside = (value, most) => Math.min(Math.max(value, 0), most);
  return [inside(event.clientX - frame.left, frame.width), inside(event.clientY - frame.top, frame.height)];
};
const span = (event) => {
  const [x, y] = at(event);
  return [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
};
const drawBox = ([left, top, right, bottom], width, height) => {
  box.hidden = false;
  box.style.left = `${(100 * left) / width}%`;
  box.style.top = `${(100 * top) / height}%`;
  box.style.width = `${(100 * (right - left)) / width}%`;
  box.style.height = `${(100 * (bottom - top)) / height}%`;
};
canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  start = at(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (start) drawBox(span(event), photo.clientWidth, photo.clientHeight);
});
canvas.addEventListener("pointerup", (event) => {
  if (!start) return;
  const [left, top, right, bottom] = span(event);
  start = null;
  if (Math.max(right - left, bottom - top) < SMALLEST) return draw();
  const [width, height] = current.size;
  const x = width / photo.clientWidth;
  const y = height / photo.clientHeight;
  trigger("choose", { box: [Math.floor(left * x), Math.floor(top * y), Math.ceil(right * x), Math.ceil(bottom * y)] });
});
canvas.addEventListener("pointercancel", () => {
  start = null;
  draw();
});

// What a search found is painted by the search, over the image here.
document.addEventListener("hilum-marks", ({ detail }) => detail(marks, (box) => trigger("choose", { box })));
look.hidden = true;
document.addEventListener("hilum-large", ({ detail }) => {
  look.hidden = !detail.is_large;
  label(look, detail.text);
});

const choose = async (index) => {
  busy.hidden = false;
  await opened();
  trigger("example", { index });
};

const drawGallery = (examples) => {
  gallery.hidden = !examples.length;
  fill(shelf, examples, ({ thumb, title }, index) =>
    make("button", { type: "button", title, onclick: () => choose(index) },
      make("img", { src: thumb, alt: "" }), make("span", { text: title })));
};

// Map and outlines lie over the image stretched as the image is; how they look is nobody's business but this browser's.
let isMapOn = false;
let isContourOn = true;
const press = (node, on, text) => {
  node.setAttribute("aria-checked", on);
  setText(node.lastChild, text);
};
const showMap = (on) => {
  isMapOn = on;
  drawMap();
};
const showContour = () => {
  isContourOn = !isContourOn;
  drawMap();
};
const drawMap = () => {
  const { map, words } = current;
  mapTools.hidden = !map;
  heat.hidden = !map || !isMapOn;
  contour.hidden = !map || !isMapOn || !isContourOn;
  if (!map) return;
  if (heat.getAttribute("src") !== map.heat) [heat.src, contour.src] = [map.heat, map.contour];
  heat.style.opacity = opacity.value;
  opacity.setAttribute("aria-label", words.map_opacity);
  opacity.disabled = contourOn.disabled = !isMapOn;
  mapTools.dataset.isTrusted = map.is_trusted;
  press(mapOn, isMapOn, words.map);
  press(contourOn, isContourOn, words.map_contour);
  mapOn.setAttribute("aria-describedby", mapNote.id);
  setText(mapNote, map.note);
};

let areMasksOn = true;
const showMasks = () => {
  areMasksOn = !areMasksOn;
  drawMasks();
};
const drawMasks = () => {
  const { masks } = current;
  maskTools.hidden = !masks;
  outline.hidden = !masks?.outline || !areMasksOn;
  if (!masks) return;
  masksOn.parentNode.hidden = !masks.outline;
  if (masks.outline && outline.getAttribute("src") !== masks.outline) outline.src = masks.outline;
  press(masksOn, areMasksOn, masks.label);
  legend.replaceChildren(...masks.legend.map(({ label, colour, told }) => {
    const line = make("i");
    line.style.background = colour;
    return make("li", {}, line, make("span", { text: label }), make("b", { text: told }));
  }));
  masksNote.hidden = !masks.note;
  setText(masksNote, masks.note);
};

// Every study has a window of its own; what is sent is in its raw values. A drawing from before the last choice must not undo it,
// and of many choices in a row, as of a key held down, the last one is sent.
let isInverted = false, wanted = {}, choices = 0, soon = 0;
const rounded = (input) => {
  const span = current.levels.high - current.levels.low;
  return Number(input.value).toLocaleString("en", { maximumFractionDigits: span > 50 ? 0 : 3 });
};
const drawLevels = () => [center, width].forEach((input) => setText(input.nextSibling, rounded(input)));
const sendLevels = (window) => {
  [wanted, choices] = [window, choices + 1];
  clearTimeout(soon);
  soon = setTimeout(() => trigger("window", { ...wanted, inverted: isInverted, number: choices }), 80);
};
const invert = () => {
  isInverted = !isInverted;
  inverted.setAttribute("aria-checked", isInverted);
  sendLevels(wanted);
};
const setLevels = ({ levels: now, words }) => {
  levels.hidden = !now;
  if (!now || now.number < choices) return;
  [choices, isInverted, wanted] = [now.number, now.inverted, { center: now.center, width: now.width }];
  Object.assign(center, { min: now.low, max: now.high, value: now.center });
  Object.assign(width, { min: now.narrowest, max: now.high - now.low, value: now.width });
  setText(levels.firstChild, words.levels);
  setText(center.previousSibling, words.levels_center);
  setText(width.previousSibling, words.levels_width);
  press(inverted, isInverted, words.levels_inverted);
  setText(levelsNote, words.levels_note);
  fill(presets, now.presets, ({ label, ...window }) =>
    make("button", { type: "button", text: label, onclick: () => sendLevels(window) }));
  now.presets.forEach(({ center, width }, place) =>
    presets.children[place].setAttribute("aria-pressed", String(center === now.center && width === now.width)));
  drawLevels();
};

let current = {};
const draw = () => {
  const value = unpacked(props.value);
  if (!value.words || value.drawn < current.drawn) return; // an older drawing that came late
  const isNew = value.map?.heat !== current.map?.heat;
  current = value;
  if (isNew) isMapOn = Boolean(value.map?.is_shown);
  drawMap();
  drawMasks();
  setLevels(value);
  const { words } = value;
  busy.hidden = true;
  drop.hidden = Boolean(value.preview);
  shown.hidden = !value.preview;
  setText(dropTitle, words.drop_title);
  setText(dropHint, words.drop_hint);
  setText(formats, words.formats);
  drop.setAttribute("aria-label", `${words.drop_title}. ${words.drop_hint}`);
  setText(busy.lastChild, words.reading);
  setText(curtain.firstChild, words.drop_anywhere);
  setText(examplesTitle, words.examples);
  setText(hint, words.region_hint);
  label(renew, words.new_image);
  label(remove, words.remove_image);
  photo.alt = words.image;
  if (photo.getAttribute("src") !== value.preview) photo.src = value.preview || "";
  const sides = value.size.map((side) => side.toLocaleString("en")).join(" × ");
  setText(size, [sides, value.frames].filter(Boolean).join(" · "));
  if (value.region.length) drawBox(value.region, ...value.size);
  else box.hidden = true;
  drawGallery(value.examples);
  say(value.trouble);
};

watch("value", draw);
draw();

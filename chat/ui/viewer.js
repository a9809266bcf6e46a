// The viewer: into an image of any size, by wheel, pinch, drag and keys. The library that draws it is fetched when it is first opened.
// Knows its own value, tiles and OpenSeadragon. Does not know what the marks over the image mean.

ICONS.minus = "M5 12h14";
ICONS.home = "M4 4h6M4 4v6M20 4h-6M20 4v6M4 20h6M4 20v-6M20 20h-6M20 20v-6";
const frame = make("div", { class: "frame" });
const layer = make("div", { class: "marks" });
const cover = make("div", { class: "cover", hidden: true }, make("i", { hidden: true }));
const told = make("span", { role: "status" });
const zoomIn = button("plus", "round", () => zoom(1.6));
const zoomOut = button("minus", "round", () => zoom(1 / 1.6));
const home = button("home", "round", () => viewer?.viewport.goHome());
const pick = make("button", { type: "button", class: "pick", "aria-pressed": "false", onclick: () => choosing(cover.hidden) });
const shut = button("close", "round", () => sheet.close());
const busy = make("div", { class: "waiting", role: "status" }, make("i"));
const sheet = make("dialog", { class: "viewer" }, make("div", { class: "view-body" }, frame, cover, busy),
  make("header", {}, told, make("span", { class: "space" }), pick, zoomOut, zoomIn, home, shut));
element.replaceChildren(sheet);

let current = {};
let viewer = null;
let shownKey = "";
const zoom = (by) => {
  viewer?.viewport.zoomBy(by);
  viewer?.viewport.applyConstraints();
};

const load = async () => {
  if (!window.OpenSeadragon) document.head.append(make("script", { text: await server.library(0) }));
};

// A tile comes as text and becomes a picture here; nothing of it has an address that a browser could keep.
const tilesOf = ({ key, source }) => ({
  ...source,
  getTileUrl: (level, column, row) => `${key}/${level}/${column}/${row}`,
  downloadTileStart: async (job) => {
    const { level, x, y } = job.tile;
    const data = await server.tile([key, level, x, y]).catch(() => "");
    if (!data) return job.fail("There is no such tile.", null);
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    job.finish(new Blob([bytes], { type: "image/jpeg" }), null, "rasterBlob");
  },
  downloadTileAbort: () => {},
});

const close = () => {
  viewer?.destroy();
  [viewer, shownKey] = [null, ""];
  frame.replaceChildren();
};
const show = () => {
  if (!sheet.open || !current.key || current.key === shownKey || !window.OpenSeadragon) return;
  close();
  shownKey = current.key;
  viewer = OpenSeadragon({
    element: frame, tileSources: tilesOf(current), drawer: "canvas", showNavigationControl: false, showNavigator: innerWidth > 768,
    navigatorPosition: "BOTTOM_RIGHT", navigatorSizeRatio: 0.16, maxZoomPixelRatio: 8, visibilityRatio: 0.6, animationTime: 0.5,
    springStiffness: 9, maxImageCacheCount: 160, imageLoaderLimit: 6,
    navigatorBorderColor: "rgb(0 0 0 / 40%)", navigatorDisplayRegionColor: "#e2a33c",
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  viewer.addOnceHandler("open", () => {
    viewer.addOverlay({ element: layer, location: viewer.world.getItemAt(0).getBounds() });
    repaint();
  });
  viewer.addOnceHandler("tile-drawn", () => { busy.hidden = true; });
};

const look = async () => {
  if (sheet.open) return;
  busy.hidden = false;
  choosing(false);
  sheet.showModal();
  try {
    await load();
    await opened();
    trigger("open");
  } catch {
    busy.hidden = true;
    setText(told, current.said.viewer_lost);
  }
};
document.addEventListener("hilum-look", look);
sheet.addEventListener("close", close);
// Esc closes the viewer; it does not reach the talk, where it would stop an answer.
sheet.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());

const choose = (box) => {
  trigger("choose", { box });
  setText(told, current.said.chosen);
};
let paint = () => {};
const repaint = () => paint(layer, choose);
document.addEventListener("hilum-marks", ({ detail }) => {
  paint = detail;
  repaint();
});

// While a part is chosen the image stands still, and a drag is a box in its pixels.
let start = null;
const choosing = (on) => {
  cover.hidden = !on;
  cover.firstChild.hidden = true;
  pick.setAttribute("aria-pressed", on);
};
const at = (event) => {
  const edges = cover.getBoundingClientRect();
  return [event.clientX - edges.left, event.clientY - edges.top];
};
cover.addEventListener("pointerdown", (event) => {
  start = at(event);
  cover.setPointerCapture(event.pointerId);
});
cover.addEventListener("pointermove", (event) => {
  if (!start) return;
  const [x, y] = at(event);
  const box = cover.firstChild;
  box.hidden = false;
  Object.assign(box.style, {
    left: `${Math.min(x, start[0])}px`, top: `${Math.min(y, start[1])}px`,
    width: `${Math.abs(x - start[0])}px`, height: `${Math.abs(y - start[1])}px`,
  });
});
cover.addEventListener("pointerup", (event) => {
  if (!start || !viewer) return;
  const toImage = ([x, y]) => viewer.world.getItemAt(0).viewerElementToImageCoordinates(new OpenSeadragon.Point(x, y));
  const [a, b] = [toImage(start), toImage(at(event))];
  start = null;
  choosing(false);
  const box = [Math.floor(Math.min(a.x, b.x)), Math.floor(Math.min(a.y, b.y)), Math.ceil(Math.max(a.x, b.x)), Math.ceil(Math.max(a.y, b.y))];
  if (box[2] - box[0] > 1 && box[3] - box[1] > 1) choose(box);
});

const draw = () => {
  const value = unpacked(props.value);
  if (!value.words || value.drawn < current.drawn) return; // an older drawing that came late
  if (sheet.open && current.key && !value.key) sheet.close(); // the image has gone, or is another one
  current = value;
  const { said, words, source } = value;
  document.dispatchEvent(new CustomEvent("hilum-large", { detail: { is_large: value.is_large, text: said.look_into } }));
  label(zoomIn, said.zoom_in);
  label(zoomOut, said.zoom_out);
  label(home, said.zoom_home);
  label(shut, words.close);
  setText(pick, said.choose_part);
  setText(told, `${source.width.toLocaleString("en")} × ${source.height.toLocaleString("en")}`);
  sheet.setAttribute("aria-label", said.look_into);
  show();
};

watch("value", draw);
draw();

// The stage: the image, how it gets here (drop, paste, browse, gallery), and the box that a person drags over it.
// Knows pixels of the image and of the screen. Does not know the conversation.

const SMALLEST = 8; // screen pixels; anything less was a click

const picker = make("input", { type: "file", id: "hilum-file", accept: "image/*", tabindex: "-1", "aria-hidden": "true" });
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
const canvas = make("div", { class: "canvas" }, photo, box);
const renew = button("plus", "ghost", () => picker.click());
const remove = button("close", "ghost", () => trigger("remove"));
const size = make("span", { class: "size" });
const hint = make("p", { class: "hint" });
const shown = make("div", { class: "shown" }, canvas, make("div", { class: "tools" }, size, make("div", { class: "space" }), renew, remove), hint);
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
  const value = props.value || {};
  if (!file) return;
  if (file.size > value.most_bytes) return say(value.words.too_large);
  say("");
  busy.hidden = false;
  try {
    // The name stays here: it may say more about a person than the image does. Its stand-in is nobody else's.
    const plain = new File([file], Math.random().toString(36).slice(2), { type: "application/octet-stream" });
    const { path } = await upload(plain);
    await opened();
    trigger("place", { path });
  } catch {
    busy.hidden = true;
    say(value.words.upload_lost);
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
document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  lift(0);
  place(event.dataTransfer.files[0]);
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
  const [width, height] = props.value.size;
  const x = width / photo.clientWidth;
  const y = height / photo.clientHeight;
  trigger("choose", { box: [Math.floor(left * x), Math.floor(top * y), Math.ceil(right * x), Math.ceil(bottom * y)] });
});
canvas.addEventListener("pointercancel", () => {
  start = null;
  draw();
});

const choose = async (index) => {
  busy.hidden = false;
  await opened();
  trigger("example", { index });
};

const drawGallery = (examples) => {
  gallery.hidden = !examples.length;
  shelf.replaceChildren(
    ...examples.map(({ thumb, title }, index) =>
      make("button", { type: "button", title, onclick: () => choose(index) },
        make("img", { src: thumb, alt: "" }), make("span", { text: title }))),
  );
};

const draw = () => {
  const value = props.value || {};
  if (!value.words) return;
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
  setText(size, value.size.length ? value.size.map((side) => side.toLocaleString("en")).join(" × ") : "");
  if (value.region.length) drawBox(value.region, ...value.size);
  else box.hidden = true;
  drawGallery(value.examples);
  say(value.trouble);
};

watch("value", draw);
draw();

// The search: two tools, what is looked for, how far it has come, and what was found. What stands over the image is painted here
// for whoever shows the image: the stage and the viewer.
// Knows its own value. Does not know how anything is found. What people wrote is set as text.

const tool = (name, act) => {
  const [title, hint] = [make("b"), make("small")];
  return make("button", { type: "button", class: "tool", onclick: act }, icon(name), make("span", {}, title, hint));
};
Object.assign(ICONS, {
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
  odd: "M3 8h4v8H3zM10 8h4v8h-4zM17 5.5h4v8h-4z",
});
const findTool = tool("search", () => unfold());
const defectTool = tool("odd", () => begin("defect"));
const tools = make("div", { class: "two", role: "group" }, findTool, defectTool);

const picker = make("input", { type: "file", accept: "image/*,.dcm,application/dicom", class: "picker", tabindex: "-1", "aria-hidden": "true" });
const picture = make("img", { alt: "", hidden: true });
const slotText = make("span");
const slot = make("button", { type: "button", class: "slot", "data-takes-files": true, onclick: () => picker.click() }, icon("image"), picture, slotText);
const drop = button("close", "bare", () => trigger("refer", { kind: "none" }));
const fromRegion = make("button", { type: "button", class: "chip", onclick: () => trigger("refer", { kind: "region" }) });
const text = make("input", { type: "text", autocomplete: "off", maxlength: "400", onkeydown: (event) => event.key === "Enter" && !event.isComposing && begin("find") });
const budget = make("input", { type: "number", min: "1", step: "1", inputmode: "numeric" });
const budgetName = make("span");
const seconds = make("input", { type: "number", min: "1", step: "any", inputmode: "decimal" });
const secondsName = make("span");
const start = make("button", { type: "button", class: "start", onclick: () => begin("find") });
const form = make("div", { class: "form", hidden: true },
  make("div", { class: "given" }, slot, drop, fromRegion), text,
  make("div", { class: "last" }, make("label", {}, budgetName, budget), make("label", {}, secondsName, seconds), start));

const normalsPicker = make("input", { type: "file", multiple: true, accept: picker.accept, class: "picker", tabindex: "-1", "aria-hidden": "true" });
const normals = make("button", { type: "button", class: "chip", "data-takes-files": true, onclick: () => normalsPicker.click() });
const dropNormals = button("close", "bare", () => trigger("refer", { kind: "no_normals" }));

const verdict = make("b");
const stop = button("stop", "ghost", () => trigger("stop"));
const meter = make("div", { class: "meter", hidden: true }, make("i"));
const notes = make("p", { class: "quiet" });
const hitsHint = make("small");
const hits = make("div", { class: "hits" });
const status = make("div", { class: "outcome", role: "status", hidden: true }, make("header", {}, verdict, stop), meter, notes, hitsHint, hits);
const trouble = make("p", { class: "trouble", role: "alert", hidden: true });
element.replaceChildren(make("section", { class: "search" }, picker, normalsPicker, tools, make("div", { class: "given" }, normals, dropNormals), form, trouble, status));

let current = {};
let isUnfolded = false;
const unfold = () => {
  isUnfolded = !isUnfolded;
  draw(true);
  if (isUnfolded) text.focus({ preventScroll: true });
};
const begin = (kind) => opened().then(() => trigger("begin", { kind, text: text.value, budget: [budget.value, seconds.value && `${seconds.value}s`].filter(Boolean).join(" ") }));
const send = async (file) => {
  const plain = new File([file], Math.random().toString(36).slice(2), { type: "application/octet-stream" });
  return (await upload(plain)).path;
};
const refer = async (files, said) => {
  if (!files?.length) return;
  try {
    const paths = [];
    for (const file of files) paths.push(await send(file));
    await opened();
    trigger("refer", said(paths));
  } catch {
    trouble.hidden = false;
    setText(trouble, current.lost);
  }
};
const reference = ([path]) => ({ kind: "file", path });
// One more than may be given is sent, so that the server says what the most is.
const unharmed = (paths) => ({ kind: "normals", paths });
const takes = (input, node, most, said) => {
  input.addEventListener("change", () => {
    refer([...input.files].slice(0, most), said);
    input.value = "";
  });
  node.addEventListener("drop", (event) => refer([...(event.dataTransfer?.files || [])].slice(0, most), said));
};
takes(picker, slot, 1, reference);
takes(normalsPicker, normals, 13, unharmed);

// Boxes in hundredths of the image, so that they lie right however large it is shown.
const put = (node, [left, top, right, bottom], [width, height]) => {
  Object.assign(node.style, {
    left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`, height: `${(100 * (bottom - top)) / height}%`,
  });
  return node;
};
const paint = (layer, choose) => {
  const { size, heat, likely, asked, best, hits } = current.marks;
  const painted = JSON.stringify([size, likely, asked, best, hits.map((hit) => [hit.box, hit.title]), heat.length]);
  if (layer.dataset.painted === painted) return;
  layer.dataset.painted = painted;
  const boxes = (name, all) => all.map((box) => put(make("i", { class: name }), box, size));
  const picked = hits.map(({ box, crop, title, chance }, place) =>
    put(make("button", {
      type: "button", class: "hit", title: [title, chance].filter(Boolean).join(" · "), "aria-label": [title, chance].filter(Boolean).join(" "),
      onclick: () => choose(crop), onpointerdown: (event) => event.stopPropagation(),
    }, make("span", { text: String(place + 1) })), box, size));
  layer.replaceChildren(...(heat ? [make("img", { src: heat, alt: "", class: "odd", draggable: "false" })] : []),
    ...boxes("likely", likely), ...boxes("asked", asked), ...boxes("best", best.length ? [best] : []), ...picked);
};

const drawTools = ({ said }, isBusy) => {
  [[findTool, said.find, said.find_hint], [defectTool, said.defect, said.defect_hint]].forEach(([node, title, hint]) => {
    setText(node.querySelector("b"), title);
    setText(node.querySelector("small"), hint);
    node.disabled = isBusy;
  });
  tools.setAttribute("aria-label", said.tools);
  findTool.setAttribute("aria-expanded", isUnfolded);
};
const drawNormals = ({ normals: { count, title, hint, remove } }, isBusy) => {
  normals.disabled = isBusy;
  setText(normals, title);
  normals.title = hint;
  dropNormals.hidden = !count || isBusy;
  label(dropNormals, remove);
};
const drawForm = ({ said, reference, has_region, passes, seconds_name }) => {
  form.hidden = !isUnfolded;
  picture.hidden = drop.hidden = !reference;
  if (reference && picture.getAttribute("src") !== reference) picture.src = reference;
  slot.firstChild.style.display = reference ? "none" : "";
  slotText.hidden = Boolean(reference);
  setText(slotText, said.reference_hint);
  slot.setAttribute("aria-label", `${said.reference}. ${said.reference_hint}`);
  label(drop, said.reference_remove);
  fromRegion.hidden = !has_region;
  setText(fromRegion, said.reference_region);
  text.placeholder = said.description;
  text.setAttribute("aria-label", said.description);
  budget.placeholder = String(passes);
  setText(budgetName, said.budget);
  setText(secondsName, seconds_name);
  setText(start, said.start);
};
const drawOutcome = ({ said, words, state, progress, notes: lines, marks }, isBusy) => {
  status.hidden = state === "none" || (!isBusy && !verdict.textContent && !lines.length);
  status.dataset.state = state;
  stop.hidden = meter.hidden = !isBusy;
  label(stop, words.stop);
  meter.classList.toggle("is-endless", isBusy && !progress);
  meter.firstChild.style.width = `${100 * progress}%`;
  setText(notes, lines.join(" "));
  notes.hidden = !lines.length;
  hitsHint.hidden = !marks.hits.length;
  setText(hitsHint, said.hits_hint);
  fill(hits, marks.hits, ({ crop, picture, title, chance }) =>
    make("button", { type: "button", onclick: () => trigger("choose", { box: crop }) },
      make("img", { src: picture, alt: "" }), make("span", { text: [title, chance].filter(Boolean).join(" · ") })));
};

const draw = (isOwn = false) => {
  const value = unpacked(props.value);
  if (!value.words || (isOwn !== true && value.drawn < current.drawn)) return; // an older drawing that came late
  current = { ...value, lost: value.words.upload_lost || value.said.viewer_lost };
  const isBusy = value.state === "waiting" || value.state === "running";
  document.getElementById("hilum-search").hidden = !value.can_search;
  if (!value.can_search || isBusy) isUnfolded = false;
  setText(verdict, value.verdict);
  drawTools(value, isBusy);
  drawNormals(value, isBusy);
  drawForm(value);
  drawOutcome(value, isBusy);
  trouble.hidden = !value.trouble;
  setText(trouble, value.trouble);
  document.dispatchEvent(new CustomEvent("hilum-marks", { detail: paint }));
};

watch("value", draw);
draw();

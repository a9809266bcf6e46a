// The evidence: what the classifier says, why it says nothing, and what the model is told of it.
// Knows its own value. Does not know models or the image; the map over the image is the stage's.

const title = make("h2");
const verdict = make("p", { class: "verdict", role: "status" });
const bars = make("ul", { class: "bars" });
const note = make("p", { class: "withheld" });
const toldTitle = make("summary");
const lines = make("div", { class: "lines", role: "group" });
const switches = make("div", { class: "switches", role: "group" });
const told = make("details", { class: "told" }, toldTitle, lines, switches);
const card = make("section", { class: "evidence" }, title, verdict, bars, note, told);
const quiet = make("p", { class: "quiet refusal", role: "status" });
element.replaceChildren(card, quiet);
told.open = !matchMedia("(width <= 768px)").matches;

const drawBar = ({ label, share, told, is_in }) =>
  make("li", { "data-in": String(is_in) }, make("span", { class: "label-chip", text: label }),
    make("span", { class: "share", "aria-hidden": "true" }, make("i", { style: `width: ${100 * share}%` })), make("b", { text: told }));

// The switches stay the same nodes while only their state changes, so that the keyboard does not lose its place.
const drawSwitches = (now) => {
  while (switches.children.length > now.length) switches.lastChild.remove();
  while (switches.children.length < now.length)
    switches.append(make("button", { type: "button", class: "switch", role: "switch" }, make("i"), make("span")));
  now.forEach(({ item, label, is_on, is_off_limits, why }, place) => {
    const node = switches.children[place];
    node.dataset.item = item;
    node.disabled = Boolean(is_off_limits);
    node.setAttribute("aria-checked", is_on);
    setText(node.lastChild, why ? `${label} (${why})` : label);
    node.onclick = () => trigger("switch", { item, on: !is_on });
  });
};

const draw = () => {
  const now = unpacked(props.value);
  if (!now.words) return;
  const { words } = now;
  document.getElementById("hilum-evidence").hidden = now.state === "none";
  card.hidden = now.state === "none" || now.state === "refused";
  quiet.hidden = now.state !== "refused";
  setText(quiet, now.quiet || "");
  if (card.hidden) return;
  card.dataset.state = now.state;
  setText(title, words.evidence);
  setText(verdict, now.verdict);
  bars.setAttribute("aria-label", words.calibrated);
  bars.replaceChildren(...now.bars.map(drawBar));
  note.hidden = !now.note;
  setText(note, now.note);
  setText(toldTitle, words.told);
  lines.lang = now.told_in;
  lines.replaceChildren(...(now.told.length ? now.told : [words.told_nothing]).map((text) => make("p", { text })));
  lines.classList.toggle("is-empty", !now.told.length);
  switches.setAttribute("aria-label", words.told);
  drawSwitches(now.switches);
};

watch("value", draw);
draw();

// The report: asked for, growing, marked where the evidence contradicts it, and saved when the person says so.
// Knows its own value. Does not know how a report comes about. What a model wrote is set as text.

const NAMES = { md: "Markdown", html: "HTML", pdf: "PDF", json: "JSON" };

const open = make("button", { type: "button", class: "report-open", onclick: () => begin() }, icon("page"), make("span"), make("small"));
const shut = button("close", "bare", () => sheet.close());
const state = make("span", { role: "status" });
const stop = button("stop", "ghost", () => trigger("stop"));
const again = button("redo", "ghost", () => trigger("write"));
const title = make("h2", { id: "hilum-report-title" });
const notice = make("p", { class: "notice" });
const trouble = make("p", { class: "trouble", role: "alert" });
const parts = make("div", { class: "parts" });
const ending = make("p", { class: "note" });
const facts = make("dl", { class: "made" });
const saving = make("div", { class: "saving", role: "group" });
const page = make("article", { class: "report-page", tabindex: "0" }, title, notice, trouble, parts, ending, facts);
const sheet = make("dialog", { class: "report-sheet", "aria-labelledby": title.id },
  make("header", {}, state, stop, again, make("span", { class: "space" }), shut), page, make("div", { class: "sheet-foot" }, saving));
element.replaceChildren(open, sheet);
sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
// Esc closes the sheet; it does not reach the talk, where it would stop an answer.
sheet.addEventListener("keydown", (event) => event.key === "Escape" && event.stopPropagation());

let current = {};
const begin = () => {
  sheet.showModal();
  if (current.state === "none") trigger("write");
};

const drawPart = ({ title, note, lines }, place) =>
  make("section", {}, make("h3", { text: `${place + 1}. ${title}` }),
    make("p", {}, ...lines.flatMap(({ text, beside, is_marked }) => [
      make(is_marked ? "mark" : "span", { text }), ...(beside ? [make("small", { text: ` ${beside}` })] : []), " "])),
    ...(note ? [make("p", { class: "note", text: note })] : []));

const drawSheet = (now) => {
  page.lang = now?.language || "";
  setText(title, now?.title || "");
  setText(notice, now?.notice || "");
  setText(trouble, now?.trouble || current.trouble || "");
  trouble.hidden = !trouble.textContent;
  parts.replaceChildren(...(now?.parts || []).map(drawPart));
  setText(ending, now?.ending || "");
  facts.replaceChildren(...(now?.facts || []).flatMap(([name, text]) => [make("dt", { text: name }), make("dd", { text })]));
};

// The file is made on the click that asked for it, out of what came with the answer; no copy lies anywhere.
const save = ({ name, mime, data }) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const address = URL.createObjectURL(new Blob([bytes], { type: mime }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
};

const draw = () => {
  const now = unpacked(props.value);
  if (!now.words || now.drawn < current.drawn) return; // an older drawing that came late
  current = now;
  const { words } = now;
  const isBusy = now.state === "waiting" || now.state === "writing";
  document.getElementById("hilum-report").hidden = !now.can_write;
  if (!now.can_write && sheet.open) sheet.close();
  setText(open.children[1], isBusy ? now.progress : now.state === "none" ? words.report_write : words.report_show);
  setText(open.lastChild, isBusy ? "" : words.report_hint);
  open.dataset.state = now.state;
  setText(state, isBusy ? now.progress : words.report);
  stop.hidden = !isBusy;
  again.hidden = isBusy;
  label(stop, words.stop);
  label(again, words.report_again);
  label(shut, words.close);
  drawSheet(now.sheet);
  saving.setAttribute("aria-label", words.report_save);
  const kindButton = (kind) => make("button", { type: "button", text: NAMES[kind] || kind, onclick: () => trigger("save", { kind }) });
  fill(saving, ["", ...now.kinds], (kind) => (kind ? kindButton(kind) : make("span")));
  setText(saving.firstChild, words.report_save);
  saving.querySelectorAll("button").forEach((button) => (button.disabled = isBusy || !now.sheet));
  if (now.file) save(now.file);
};

watch("value", draw);
draw();

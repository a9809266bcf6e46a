// What is kept: closed until somebody wants to know; then checked anew every time. Knows its own value and nothing else.

const title = make("summary");
const rows = make("dl", { class: "facts" });
const verdict = make("p", { class: "quiet", role: "status" });
const until = make("p", { class: "quiet" });
const check = make("button", { type: "button", onclick: () => trigger("check") });
const forget = make("button", { type: "button", class: "forget", onclick: () => trigger("forget") });
const box = make("details", { class: "kept" }, title, rows, verdict, until, make("div", { class: "kept-foot" }, check, forget));
element.replaceChildren(box);
box.addEventListener("toggle", () => box.open && trigger("check"));

let current = {};
const draw = () => {
  const now = props.value || {};
  if (!now.said || now.drawn < current.drawn) return; // an older drawing that came late
  current = now;
  setText(title, now.said.keeping);
  setText(check, now.said.check);
  setText(forget, now.said.forget);
  setText(until, now.said.until);
  setText(verdict, [now.done, now.verdict].filter(Boolean).join(" "));
  verdict.dataset.isClean = now.is_clean;
  rows.replaceChildren(...now.rows.flatMap(([name, text]) => [make("dt", { text: name }), make("dd", { text })]));
};

watch("value", draw);
draw();

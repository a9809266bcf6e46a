// The talk: what was said, what is being said, and the place to say more.
// Knows its own value. Does not know images, models or how an answer comes about. All that people or models wrote is set as text.

const report = make("textarea", { rows: "5", autocomplete: "off" });
const pin = make("details", { class: "pin" }, make("summary"), make("p"), report);
const voice = (is_adapted) => make("button", { type: "button", onclick: () => trigger("vote", { is_adapted }) });
const voices = make("div", { class: "voices", role: "group", hidden: true }, voice(false), voice(true));
const log = make("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0" });
const welcome = make("div", { class: "welcome" }, mark(), make("h2"), make("p"), make("div", { class: "chips" }), make("small"));
const spoken = make("div", { class: "unseen", role: "status", "aria-live": "polite" });
const troubleText = make("span");
const shut = button("close", "bare", () => trouble.setAttribute("hidden", ""));
const trouble = make("div", { class: "trouble", role: "alert", hidden: true }, troubleText, shut);
const editing = make("div", { class: "editing", hidden: true }, make("span"), button("close", "bare", () => edit(false)));
const part = make("div", { class: "part", hidden: true }, make("span"), button("close", "bare", () => trigger("choose", { box: null })));
const input = make("textarea", { rows: "1", autocomplete: "off", enterkeyhint: "send", id: "hilum-question" });
const send = button("send", "send", () => (value().is_busy ? stop() : submit()));
const dots = make("span", { class: "dots", "aria-hidden": "true" });
const remembers = make("span");
const tokens = make("span", { class: "tokens" });
const keys = make("span", { class: "keys" });
const clear = button("clear", "ghost clear", () => trigger("clear"));
const memory = make("div", { class: "memory" }, dots, remembers, tokens, make("span", { class: "space" }), keys, clear);
const field = make("div", { class: "field" }, input, send);
const composer = make("div", { class: "composer" }, trouble, editing, part, field, memory);
element.replaceChildren(make("section", { class: "talk" }, make("div", { class: "head" }, pin, voices), make("div", { class: "scroll" }, welcome, log), composer, spoken));
const scroll = element.querySelector(".scroll");

let current = {};
const value = () => current;
let isEditing = false;
let drafts = 0;
let pinned = "";
let wasBusy = false;

const arm = () => (send.disabled = !value().is_busy && !input.value.trim());
const grow = () => {
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 200)}px`;
  arm();
};
const write = (text) => {
  input.value = text;
  grow();
};
const edit = (on) => {
  isEditing = on;
  editing.hidden = !on;
  write(on ? value().items.at(-1).question : "");
  input.focus();
};
const submit = (text = input.value) => {
  if (value().is_busy || !text.trim()) return;
  const event = isEditing ? "edit" : "ask";
  opened().then(() => trigger(event, { text, pinned: report.value }));
  isEditing = false;
  editing.hidden = true;
};
const stop = () => {
  if (!value().is_busy) return;
  label(send, value().words.stopping);
  send.classList.add("stopping");
  trigger("stop");
};
const copy = async (text, node) => {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else return; // a browser gives the clipboard to secure pages only
  label(node, value().words.copied);
  setTimeout(() => label(node, value().words.copy), 1500);
};

input.addEventListener("input", grow);
report.addEventListener("change", () => opened().then(() => trigger("pin", { pinned: report.value })));
input.addEventListener("keydown", (event) => {
  // While a Hangul syllable is being composed, Enter belongs to the input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing) return;
  if (value().is_busy) stop();
  else if (isEditing) edit(false);
});

const newTurn = () => {
  const question = make("div", { class: "question" }, make("span", { class: "number" }), make("p"));
  const text = make("p");
  const seen = make("details", { class: "seen", hidden: true }, make("summary"), make("div"));
  const answer = make("div", { class: "answer" }, make("b", { hidden: true }), text, make("div", { class: "note", hidden: true }), seen);
  const aside = make("div", { class: "aside", hidden: true }, make("b"), make("p"), make("small"));
  const actions = make("div", { class: "actions" },
    button("copy", "ghost", (event) => copy(text.textContent, event.currentTarget)),
    button("redo", "ghost last", () => trigger("regenerate")),
    button("edit", "ghost last", () => edit(true)),
    button("undo", "ghost last", () => trigger("undo")),
    button("compare", "ghost last", () => trigger("compare", { less: "evidence" })),
    button("pair", "ghost last", () => trigger("compare", { less: "model" })));
  const tail = make("div", { class: "tail" }, make("span", { class: "facts" }), actions);
  return make("article", { class: "turn" }, make("div", { class: "line" }, make("span")), question,
    make("div", { class: "pair" }, answer, aside), tail);
};

const NOTES = { stopped: "stopped", cut: "cut" };

// Open while there is nothing else to read; from then on as the person leaves it.
const drawSeen = (node, item, words) => {
  const isAlone = String(!item.answer);
  node.hidden = !item.observations || item.observations === item.answer;
  if (node.dataset.isAlone !== isAlone) node.open = !item.answer;
  node.dataset.isAlone = isAlone;
  setText(node.children[0], words.observations);
  setText(node.children[1], item.observations);
};

// The same question without the evidence, or answered by the other model, beside the answer.
const drawAside = (pair, aside, words) => {
  const [answer, node] = pair.children;
  const [title, text, note] = node.children;
  pair.classList.toggle("is-pair", Boolean(aside));
  node.hidden = answer.firstChild.hidden = !aside;
  if (!aside) return;
  const isBusy = aside.state === "waiting" || aside.state === "answering";
  setText(answer.firstChild, aside.titles[0]);
  setText(title, aside.titles[1]);
  setText(text, aside.answer || (isBusy ? aside.doing : ""));
  node.dataset.isEmpty = !aside.answer;
  setText(note, [words[NOTES[aside.state]], aside.note].filter(Boolean).join(" · "));
};

const drawTurn = (node, item, before, isLast, { words, is_busy }) => {
  const [line, question, pair, tail] = node.children;
  const [answer] = pair.children;
  const [facts, actions] = tail.children;
  const isBusy = item.state === "waiting" || item.state === "answering";
  node.dataset.state = item.state;
  node.dataset.remembered = item.is_remembered;
  line.hidden = !(item.is_remembered && before && !before.is_remembered);
  setText(line.firstChild, words.left_window);
  setText(question.children[0], String(item.number));
  setText(question.children[1], item.question);
  question.setAttribute("aria-label", words.you);
  setText(answer.children[1], item.answer || (isBusy ? item.doing : ""));
  answer.dataset.isEmpty = !item.answer;
  const note = item.trouble || words[NOTES[item.state]];
  answer.children[2].hidden = !note;
  setText(answer.children[2], note || "");
  drawSeen(answer.children[3], item, words);
  drawAside(pair, item.aside, words);
  setText(facts, item.facts.join(" · "));
  actions.hidden = isBusy || (isLast && is_busy);
  const names = ["copy", "regenerate", "edit", "undo", "compare", "side_by_side"];
  names.forEach((name, place) => label(actions.children[place], words[name]));
  actions.children[4].hidden = !item.can_compare;
  actions.children[5].hidden = !item.can_pair;
  node.classList.toggle("is-last", isLast);
};

// What stands above the conversation: a report that stays in the prompt, and which of two models answers next.
const drawHead = ({ words, voices: names, is_adapted, ...now }) => {
  if (now.pinned !== pinned) {
    pinned = now.pinned;
    if (!pinned || document.activeElement !== report) report.value = pinned; // else more is being written
  }
  setText(pin.children[0], pinned ? words.pin_on : words.pin);
  pin.classList.toggle("on", Boolean(pinned));
  setText(pin.children[1], words.pin_hint);
  report.setAttribute("aria-label", words.pin);
  voices.hidden = !names.length;
  voices.setAttribute("aria-label", words.answers_next);
  names.forEach((name, place) => {
    const node = voices.children[place];
    setText(node, name);
    node.title = name;
    node.setAttribute("aria-pressed", Boolean(place) === is_adapted);
  });
};

const drawDots = ({ kept, limit }) => {
  while (dots.children.length < limit) dots.append(make("i"));
  while (dots.children.length > limit) dots.lastChild.remove();
  [...dots.children].forEach((dot, place) => dot.classList.toggle("on", place < kept));
};

const drawComposer = (now) => {
  const { words } = now;
  const [serial, draft] = now.draft;
  if (serial !== drafts) {
    drafts = serial;
    write(draft);
  }
  const hint = now.has_image ? words.placeholder : words.placeholder_empty;
  if (input.placeholder !== hint) { // to grow is to lay the page out, too much for every word of an answer
    input.placeholder = hint;
    grow();
  }
  input.setAttribute("aria-label", words.placeholder);
  if (send.classList.contains("busy") !== now.is_busy) send.firstChild.replaceWith(icon(now.is_busy ? "stop" : "send"));
  if (!now.is_busy) send.classList.remove("stopping");
  label(send, now.is_busy ? words[send.classList.contains("stopping") ? "stopping" : "stop"] : words.send);
  send.classList.toggle("busy", now.is_busy);
  trouble.hidden = !now.trouble;
  setText(troubleText, now.trouble);
  label(shut, words.close);
  setText(editing.firstChild, words.editing);
  label(editing.lastChild, words.cancel);
  part.hidden = !now.region.length;
  const [left, top, right, bottom] = now.region;
  setText(part.firstChild, now.region.length ? `${words.region} · ${right - left} × ${bottom - top}` : "");
  label(part.lastChild, words.remove_region);
  setText(remembers, now.remembers);
  setText(tokens, now.token_use);
  setText(keys, words.keys);
  label(clear, words.clear);
  clear.hidden = !now.items.length;
  drawDots(now);
  arm();
};

// On a phone the page scrolls, beside it the conversation does.
const isPhone = matchMedia("(width <= 768px)");
const isAtEnd = () =>
  isPhone.matches
    ? innerHeight + scrollY > scroll.getBoundingClientRect().bottom + scrollY - 80
    : scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
const goToEnd = () => {
  if (isPhone.matches) log.lastChild?.scrollIntoView({ block: "end" });
  else scroll.scrollTop = scroll.scrollHeight;
};

const drawWelcome = ({ words, items, has_image, suggestions, notice }) => {
  const [, title, text, chips, small] = welcome.children;
  welcome.hidden = items.length > 0;
  setText(title, has_image ? words.ready_title : words.welcome_title);
  setText(text, has_image ? words.ready_text : words.welcome_text);
  setText(small, has_image ? "" : notice);
  fill(chips, has_image ? suggestions : [], (text) => make("button", { type: "button", text, onclick: () => submit(text) }));
};

const draw = () => {
  const now = unpacked(props.value);
  if (!now.words || now.drawn < current.drawn) return; // an older drawing that came late
  current = now;
  const follows = isAtEnd() && (now.is_busy || wasBusy);
  const isNew = log.children.length < now.items.length;
  while (log.children.length > now.items.length) log.lastChild.remove();
  while (log.children.length < now.items.length) log.append(newTurn());
  now.items.forEach((item, place) =>
    drawTurn(log.children[place], item, now.items[place - 1], place === now.items.length - 1, now));
  log.setAttribute("aria-label", now.words.conversation);
  log.hidden = now.items.length === 0;
  drawWelcome(now);
  drawHead(now);
  drawComposer(now);
  if (follows || isNew) goToEnd();
  if (wasBusy && !now.is_busy) setText(spoken, now.items.at(-1)?.aside?.answer || now.items.at(-1)?.answer || "");
  wasBusy = now.is_busy;
};

watch("value", draw);
draw();

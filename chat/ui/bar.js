// The bar: name, model, language, light and dark. Knows its own value; does not know the conversation.

const speak = (language) => opened().then(() => trigger("speak", { language }));
const chip = make("span", { class: "chip" }, make("i"), make("b"), make("span"));
const tagline = make("span", { class: "tagline" });
const ko = make("button", { type: "button", lang: "ko", text: "한국어", onclick: () => speak("ko") });
const en = make("button", { type: "button", lang: "en", text: "English", onclick: () => speak("en") });
const languages = make("div", { class: "languages", role: "group" }, ko, en);
const isDark = () => document.body.classList.contains("dark");
const theme = button("moon", "round", () => {
  document.body.classList.toggle("dark");
  draw();
});
const name = make("h1", {}, mark(), make("span", { text: "Hilum" }));
element.replaceChildren(make("header", { class: "bar" }, name, tagline, make("div", { class: "space" }), chip, languages, theme));

const draw = () => {
  const { words, language, is_open, model, device } = unpacked(props.value);
  if (!words) return;
  document.documentElement.lang = language;
  if (is_open) document.body.dataset.hilum = "open";
  setText(tagline, words.tagline);
  setText(chip.children[1], model);
  setText(chip.children[2], device);
  chip.title = words.model;
  languages.setAttribute("aria-label", words.language);
  ko.setAttribute("aria-pressed", language === "ko");
  en.setAttribute("aria-pressed", language === "en");
  theme.replaceChildren(icon(isDark() ? "sun" : "moon"), make("span", { class: "label" }));
  label(theme, isDark() ? words.to_light : words.to_dark);
};

watch("value", draw);
draw();

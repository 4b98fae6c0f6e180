// The few things every part of the page needs. All text becomes text nodes: nothing here can make HTML out of it.

export const byId = (id) => document.getElementById(id);

// The page's words in its language, from templates/words.toml; {names} in them are filled in.
const { lang } = document.documentElement;
const words = JSON.parse(byId("words").textContent);
export const say = (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
export const translate = (sentence) => words[sentence] ?? sentence; // of the classifier's, where it is known
export const hasKey = document.body.dataset.hasKey === "yes"; // the page asks for an access key
export const isEnglish = lang === "en";

// make("p", { className: "note", "aria-label": "…" }, "text", child): names with a hyphen, and role, are attributes.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export const makeButton = (text, className, onclick) => make("button", { type: "button", className, onclick }, text);

export const formatCount = (number) => number.toLocaleString(lang);

// Text of a visitor's or a model's, which may run from right to left: it stays within itself.
export const isolate = (text, className = "") => make("bdi", { className }, text);

// Not `disabled`: that would take the focus away from whoever pressed the button with the keyboard.
export const setBusy = (button, isBusy) => button.setAttribute("aria-disabled", String(isBusy));

export const isBusy = (button) => button.getAttribute("aria-disabled") === "true";

// The texts as they are now, by the names the API knows; composed, as the API counts the characters of an explanation.
export const fields = [...document.querySelectorAll(".field textarea")];
export const readTexts = () => Object.fromEntries(fields.map((field) => [field.name, field.value.normalize("NFC")]));
export const getLabel = (field) => field.labels[0].textContent;

// Tabs as the ARIA practices describe them: one tab stop, arrow keys between the tabs.
export function setUpTabs(tabs) {
  const select = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  }
}

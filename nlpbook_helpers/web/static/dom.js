// The few things every part of the page needs. All text becomes text nodes: nothing here can make HTML out of it.

export const byId = (id) => document.getElementById(id);

// What the server says of this page: its words in the language chosen, its limits, its switches.
export const page = JSON.parse(byId("page").textContent);
const { lang } = document.documentElement;
export const isEnglish = lang === "en";
export const formatCount = (number) => number.toLocaleString(lang);
const format = (value) => (typeof value === "number" ? formatCount(value) : value);

// Words from templates/words.toml; {names} in them are filled in, numbers as the language writes them.
export const say = (key, values = {}) => page.words[key].replace(/\{(\w+)\}/g, (_, name) => format(values[name]));
export const translate = (sentence) => page.words[sentence] ?? sentence; // of the classifier's, where it is known

// Puts children into an element, in the place of what was there. Lists may be nested; false and null are nothing.
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => (child ?? false) !== false));
  return element;
}

// make("p", { className: "note", ariaLabel: "…" }, "text", child). `style` is allowed by the policy as a property.
export function make(tag, properties = {}, ...children) {
  return fill(Object.assign(document.createElement(tag), properties), ...children);
}

export const makeButton = (text, className, onclick) => make("button", { type: "button", className, onclick }, text);

export const makeNote = (...children) => make("p", { className: "note" }, ...children);

// Text of a visitor's or a model's, which may run from right to left: it stays within itself.
export const isolate = (text, className = "") => make("bdi", { className }, text);

// The texts as they are now, by the names the API knows; composed, as the API counts the characters of an explanation.
export const fields = [...document.querySelectorAll(".field textarea")];
export const readTexts = () => Object.fromEntries(fields.map((field) => [field.name, field.value.normalize("NFC")]));
export const getLabel = (field) => field.labels[0].textContent;

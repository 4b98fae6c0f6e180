// One question: sends the form to the API and shows the answer. The other modules hang on it.
import { makeAnswer, summarize } from "./answer.js";
import { post, press } from "./api.js";
import { askBeside, makeHash, rename, setUpBeside } from "./beside.js";
import { copy, showCalls } from "./calls.js";
import { byId, fields, fill, isolate, make, makeButton, page, readTexts, say } from "./dom.js";
import { offerExplanation } from "./explain.js";
import { makeFeedback } from "./feedback.js";
import { getMany, restoreMany } from "./many.js";

const [form, submit, result, why, after] = ["form", "submit", "result", "why", "after"].map(byId);
const [one, many] = ["tab-one", "tab-many"].map(byId);
const MOST_ENTRIES = 20;

let answered; // the texts of the last answer
let entries = []; // { texts, name, shown }: the answers of this visit, until the page is closed or loaded anew

// What belongs to an answer stands below it only while the state is "done": see answer.css.
function show(state, ...children) {
  result.dataset.state = state;
  fill(result, children);
  result.scrollIntoView({ block: "nearest" }); // on a phone it lies below the form
}

const showHint = (state, key) => show(state, make("p", { className: "hint" }, say(key)));

function showError({ message, field: name }) {
  const field = fields.find((field) => field.name === name);
  if (!field) return show("error", make("strong", {}, say("no_answer")), make("p", {}, message));
  showHint("empty", "correct_field");
  setFieldError(field, message);
  field.focus(); // its description, the error, is read aloud with it
}

function setFieldError(field, message = "") {
  byId(`error-${field.name}`).textContent = message;
  field.ariaInvalid = String(Boolean(message));
}

async function ask() {
  const texts = readTexts();
  fields.forEach((field) => setFieldError(field));
  showHint("loading", "reading");
  askBeside(texts);
  const answer = await post("api", texts);
  const summary = summarize(answer);
  show("done", makeAnswer(answer));
  offerExplanation(why, texts);
  fill(after, makeFeedback(texts, summary), makeLinkButton(texts));
  remember(texts, summary);
  answered = texts;
}

async function submitForm() {
  await press(submit, ask, showError);
  if (isHashNew()) askAbout(readHash()); // came meanwhile
}

// Writes texts into the form and asks about them, unless there is something left to write.
function askAbout(texts) {
  if (submit.ariaDisabled === "true") return;
  // What was typed and got no answer is not lost: the history keeps it.
  const typed = readTexts();
  const isUnanswered = JSON.stringify(typed) !== JSON.stringify(answered) && Object.values(typed).join("").trim();
  if (isUnanswered) remember(typed, { name: say("unanswered"), shown: "" });
  for (const field of fields) field.value = texts[field.name] ?? "";
  form.dispatchEvent(new Event("input"));
  one.checked = true;
  if (fields.every((field) => field.value)) submitForm();
}

const readHash = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const isHashNew = () => location.hash && fields.some((field) => field.value !== (readHash()[field.name] ?? ""));

function makeLinkButton(texts) {
  const button = makeButton(say("copy_link"), "secondary", () => {
    history.replaceState(null, "", makeHash(texts)); // and so it stands in the address bar too
    copy(button, location.href);
  });
  const note = make("span", { className: "note" }, say("link_is_private"), " ", page.has_key && say("link_needs_key"));
  return make("div", { className: "send" }, button, note);
}

// The newest first; the same texts asked again move up.
function remember(texts, { name, shown }) {
  const key = JSON.stringify(texts);
  showHistory([{ texts, name, shown }, ...entries.filter((entry) => JSON.stringify(entry.texts) !== key)]);
}

function showHistory(wanted) {
  entries = wanted.slice(0, MOST_ENTRIES);
  const buttons = entries.map(({ texts, name, shown }) => {
    const words = isolate(Object.values(texts).join(" → "), "entry-text");
    const answer = make("span", { className: "entry-answer" }, `${name} ${shown}`);
    return makeButton([words, answer], "entry", () => askAbout(texts));
  });
  byId("history").hidden = !entries.length;
  byId("history-count").textContent = entries.length;
  fill(byId("history-list"), buttons.map((button) => make("li", {}, button)));
}

// Counts, calls and address follow the texts in the form.
function follow() {
  for (const field of fields) {
    const count = byId(`count-${field.name}`);
    const length = [...field.value].length;
    count.textContent = say("count", { count: length, most: page.max_chars });
    count.classList.toggle("over", length > page.max_chars);
  }
  const sample = ([name, text]) => [name, text || say("sample_text")];
  showCalls("call", "api", Object.fromEntries(Object.entries(readTexts()).map(sample)));
  // To load the page anew must not bring an older text back than the one in the form.
  if (isHashNew()) history.replaceState(null, "", location.pathname + location.search);
}

// Lays down what this tab holds, for the same page in the other language and for the way back from another one;
// another classifier's gets the texts.
function keep({ currentTarget: link }) {
  const texts = readTexts();
  const address = location.pathname + (Object.values(texts).join("") ? makeHash(texts) : "");
  try {
    history.replaceState({ isMany: many.checked, entries, many: getMany() }, "", address);
  } catch {
    history.replaceState(null, "", address); // that was more than the browser takes
  }
  if (link.dataset.fields && location.hash) link.hash = makeHash(rename(texts, link));
}

// What was typed outlives a reload: it stays in this tab, by the page's address, and is never sent.
const DRAFT = `nlpbook_draft ${location.pathname}`;

function keepDraft() {
  const { source } = getMany();
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify({ texts: readTexts(), lines: source.table ? "" : source.text }));
  } catch {} // the browser keeps nothing for this page, or not as much
}

function restoreDraft() {
  let draft;
  try {
    draft = JSON.parse(sessionStorage.getItem(DRAFT));
  } catch {} // as above
  if (!draft) return;
  for (const field of fields) field.value ||= draft.texts[field.name] ?? "";
  if (!kept && draft.lines) restoreMany({ source: { text: draft.lines }, items: [] });
}

for (const link of document.querySelectorAll("a")) link.addEventListener("click", keep);
byId("language").addEventListener("click", (event) => {
  event.preventDefault();
  document.cookie = `nlpbook_language=${event.currentTarget.hreflang}; SameSite=Lax; Path=/; Max-Age=31536000`;
  location.reload();
});

const kept = history.state;
history.replaceState(null, "");
showHistory(kept?.entries ?? []);
if (kept) restoreMany(kept.many);
setUpBeside(() => answered);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // On a phone the keyboard would cover the answer.
  if (matchMedia("(hover: none)").matches) document.activeElement.blur();
  submitForm();
});
form.addEventListener("input", ({ target }) => {
  if (target !== form) setFieldError(target);
  follow();
});
form.addEventListener("keydown", (event) => {
  // While a Hangul syllable is being composed, Enter belongs to the input method.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || !fields.includes(event.target)) return;
  event.preventDefault();
  form.requestSubmit();
});
byId("history-clear").addEventListener("click", () => {
  showHistory([]);
  fields[0].focus();
});
document.querySelectorAll(".chip").forEach((chip, index) => {
  const texts = Object.fromEntries(fields.map((field, place) => [field.name, page.chips[index][place]]));
  chip.addEventListener("click", () => askAbout(texts));
});
addEventListener("hashchange", () => askAbout(readHash()));

if (location.hash) askAbout(readHash());
else {
  restoreDraft();
  follow();
}
addEventListener("pagehide", keepDraft);
(kept?.isMany ? many : one).checked = true;

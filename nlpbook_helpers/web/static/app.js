// One question: sends the form to the API and shows the answer. The other modules hang on it.
import { makeAnswer, summarize } from "./answer.js";
import { countDown, post } from "./api.js";
import { askBeside, makeHash, setUpBeside } from "./beside.js";
import { copy, setUpCallsOfForm } from "./calls.js";
import { byId, fields, formatCount, hasKey, isBusy, make, makeButton, readTexts, say, setBusy, setUpTabs } from "./dom.js";
import { offerExplanation } from "./explain.js";
import { makeFeedback } from "./feedback.js";
import { getEntries, setUpHistory } from "./history.js";
import { getMany, setUpMany } from "./many.js";

const form = byId("form");
const [submit, result, why, place] = ["submit", "result", "why", "after"].map(byId);
let answered; // the texts of the last answer
const tabs = [...document.querySelectorAll("[role=tab]")];

function show(state, ...children) {
  result.dataset.state = state;
  result.setAttribute("aria-busy", String(state === "loading"));
  result.replaceChildren(...children);
  why.hidden = place.hidden = state !== "done";
  result.scrollIntoView({ block: "nearest" }); // on a phone it lies below the form
}

function makeSkeleton(className) {
  return make("div", { className, "aria-hidden": "true" }, make("i"), make("i"), make("i"));
}

function showHint(words) {
  show("empty", makeSkeleton("skeleton still"), make("p", { className: "hint" }, words));
}

function showError(error) {
  const field = fields.find((one) => one.name === error.field);
  if (!field) return show("error", make("strong", {}, say("no_answer")), make("p", {}, error.message));
  showHint(say("correct_field"));
  setFieldError(field, error.message);
  field.focus(); // its description, the error, is read aloud with it
}

function setFieldError(field, message) {
  const place = byId(`error-${field.name}`);
  place.textContent = message;
  place.hidden = !message;
  field.setAttribute("aria-invalid", String(Boolean(message)));
}

async function ask() {
  if (isBusy(submit)) return;
  const texts = readTexts();
  dropOldHash();
  setBusy(submit, true);
  fields.forEach((field) => setFieldError(field, ""));
  show("loading", make("p", { className: "hint" }, say("reading")), makeSkeleton("skeleton"));
  askBeside(texts);
  try {
    const answer = await post("api", texts);
    const summary = summarize(answer);
    show("done", ...makeAnswer(answer));
    offerExplanation(why, texts);
    place.replaceChildren(...makeFeedback(texts, summary), makeLinkButton(texts));
    remember(texts, summary);
    answered = texts;
  } catch (error) {
    showError(error);
    // A server that asks for patience gets it: the button counts down and then works again.
    await countDown(error.waitSeconds, (left) => (submit.textContent = say("again_in", { left })));
    submit.textContent = say("analyse");
  } finally {
    setBusy(submit, false);
  }
  if (isHashNew()) askAboutHash(); // came meanwhile
}

function askAbout(texts) {
  if (isBusy(submit)) return;
  // What was typed and got no answer is not lost: the history keeps it.
  const typed = readTexts();
  const isUnanswered = JSON.stringify(typed) !== JSON.stringify(answered) && Object.values(typed).join("").trim();
  if (isUnanswered) remember(typed, { name: say("unanswered"), shown: "" });
  for (const field of fields) field.value = texts[field.name];
  fields.forEach(updateCount);
  updateCalls();
  tabs[0].click();
  ask();
}

const readHash = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const isHashNew = () => location.hash && fields.some((field) => field.value !== readHash()[field.name]);

// To load the page anew must not bring an older text back than the one in the form.
function dropOldHash() {
  if (isHashNew()) history.replaceState(null, "", location.pathname + location.search);
}

// Asks about the texts that the address carries; if some are missing, there is something left to write.
function askAboutHash() {
  const given = readHash();
  if (fields.every((field) => given[field.name])) return askAbout(given);
  for (const field of fields) field.value ||= given[field.name] ?? "";
  fields.forEach(updateCount);
  updateCalls();
}

function makeLinkButton(texts) {
  const link = make("span", { hidden: true }, location.href.replace(/#.*/s, "") + makeHash(texts));
  const button = makeButton(say("copy_link"), "secondary", async () => {
    history.replaceState(null, "", makeHash(texts)); // and so it stands in the address bar too
    await copy(link);
    button.textContent = say("copied");
  });
  const note = `${say("link_is_private")} ${hasKey ? say("link_needs_key") : ""}`;
  return make("div", { className: "send" }, button, link, make("span", { className: "note" }, note));
}

function updateCount(field) {
  const count = byId(`count-${field.name}`);
  const max = Number(count.dataset.max);
  const length = [...field.value].length;
  count.textContent = say("count", { count: formatCount(length), most: formatCount(max) });
  count.classList.toggle("over", length > max);
}

// Lays down what this tab holds, for the same page in the other language and for the way back from another one.
function keep() {
  const texts = readTexts();
  const address = location.pathname + (Object.values(texts).join("") ? makeHash(texts) : "");
  const kept = { tab: tabs.findIndex((tab) => !tab.tabIndex), entries: getEntries(), many: getMany() };
  try {
    history.replaceState(kept, "", address);
  } catch {
    history.replaceState(null, "", address); // that was more than the browser takes
  }
}

const kept = history.state;
history.replaceState(null, "");
const remember = setUpHistory(askAbout, kept?.entries);
const updateCalls = setUpCallsOfForm();
setUpTabs(tabs);
setUpMany(kept?.many);
setUpBeside(readTexts, () => answered, keep);

form.addEventListener("submit", (event) => {
  event.preventDefault();
  // On a phone the keyboard would cover the answer.
  if (matchMedia("(hover: none)").matches) document.activeElement.blur();
  ask();
});

for (const field of fields) {
  updateCount(field); // the browser may have kept what was typed before a reload
  field.addEventListener("input", () => {
    setFieldError(field, "");
    updateCount(field);
    dropOldHash();
  });
  field.addEventListener("keydown", (event) => {
    // While a Hangul syllable is being composed, Enter belongs to the input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

for (const chip of document.querySelectorAll(".chip")) {
  const values = JSON.parse(chip.dataset.values);
  chip.addEventListener("click", () => askAbout(Object.fromEntries(fields.map((field, i) => [field.name, values[i]]))));
}

byId("language").addEventListener("click", (event) => {
  event.preventDefault();
  document.cookie = `nlpbook_language=${event.currentTarget.hreflang}; SameSite=Lax; Path=/; Max-Age=31536000`;
  keep();
  location.reload();
});
addEventListener("hashchange", askAboutHash);
askAboutHash();
tabs[kept?.tab ?? 0].click();

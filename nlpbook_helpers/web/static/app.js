// One question: sends the form to the API and shows the answer. The other modules hang on it.
import { makeAnswer, summarize } from "./answer.js";
import { countDown, post } from "./api.js";
import { setUpCalls } from "./calls.js";
import { byId, fields, formatCount, isBusy, make, readTexts, setBusy, setUpTabs } from "./dom.js";
import { offerExplanation } from "./explain.js";
import { setUpHistory } from "./history.js";
import { setUpMany } from "./many.js";

const form = byId("form");
const [submit, result, why] = ["submit", "result", "why"].map(byId);
const canExplain = document.body.dataset.canExplain === "yes";
let answered; // the texts of the last answer, as JSON
const tabs = [...document.querySelectorAll("[role=tab]")];

function show(state, ...children) {
  result.dataset.state = state;
  result.setAttribute("aria-busy", String(state === "loading"));
  result.replaceChildren(...children);
  if (state !== "done") why.hidden = true;
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
  if (!field) return show("error", make("strong", {}, "답을 받지 못했습니다"), make("p", {}, error.message));
  showHint("표시된 칸을 고치면 여기에 결과가 나타납니다.");
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
  setBusy(submit, true);
  fields.forEach((field) => setFieldError(field, ""));
  show("loading", make("p", { className: "hint" }, "모델이 읽고 있습니다…"), makeSkeleton("skeleton"));
  try {
    const answer = await post("api", texts);
    show("done", ...makeAnswer(answer));
    offerExplanation(why, texts, canExplain);
    remember(texts, summarize(answer));
    answered = JSON.stringify(texts);
  } catch (error) {
    showError(error);
    // A server that asks for patience gets it: the button counts down and then works again.
    await countDown(error.waitSeconds, (left) => (submit.textContent = `${left}초 뒤에 다시`));
    submit.textContent = "분석하기";
  } finally {
    setBusy(submit, false);
  }
}

function askAbout(texts) {
  if (isBusy(submit)) return;
  // What was typed and got no answer is not lost: the history keeps it.
  const typed = readTexts();
  const isUnanswered = JSON.stringify(typed) !== answered && Object.values(typed).join("").trim();
  if (isUnanswered) remember(typed, { name: "답을 받지 못한 글", shown: "" });
  for (const field of fields) field.value = texts[field.name];
  fields.forEach(updateCount);
  updateCalls();
  tabs[0].click();
  ask();
}

function updateCount(field) {
  const count = byId(`count-${field.name}`);
  const max = Number(count.dataset.max);
  const length = [...field.value].length;
  count.textContent = `${formatCount(length)} / ${formatCount(max)}자`;
  count.classList.toggle("over", length > max);
}

const remember = setUpHistory(askAbout);
const updateCalls = setUpCalls();
setUpTabs(tabs);
setUpMany();

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

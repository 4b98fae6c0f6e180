// Sends the form to the API and shows its answer. All text goes through textContent: never as HTML.
"use strict";

const TIMEOUT_MS = 60000;
const form = document.getElementById("form");
const submit = document.getElementById("submit");
const result = document.getElementById("result");
const fields = [...form.querySelectorAll("textarea")];

const WORDS_BY_STATUS = {
  401: "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요.",
  413: "보낸 글이 너무 깁니다. 줄여서 다시 보내 주세요.",
  429: "요청이 너무 잦습니다. 잠시 뒤에 다시 보내 주세요.",
};

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function show(state, ...children) {
  result.dataset.state = state;
  result.setAttribute("aria-busy", String(state === "loading"));
  result.replaceChildren(...children);
  result.scrollIntoView({ block: "nearest" }); // on a phone it lies below the form
}

function showLoading() {
  const lines = make("div", "skeleton", "");
  lines.setAttribute("aria-hidden", "true");
  lines.append(make("i", "", ""), make("i", "", ""), make("i", "", ""));
  show("loading", make("p", "hint", "모델이 읽고 있습니다…"), lines);
}

function showError(message, fieldName) {
  show("error", make("strong", "oops", "답을 받지 못했습니다"), make("p", "", message));
  const field = fields.find((one) => one.name === fieldName);
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.focus({ preventScroll: true });
  }
}

// Each X_width ("98.76%") of the answer with its X_data ("긍정 0.9876") is a bar.
function readBars(answer) {
  return Object.keys(answer)
    .filter((key) => key.endsWith("_width") && key.replace(/_width$/, "_data") in answer)
    .map((key) => {
      const [, name, value] = /^(.*?)\s*(\S*)$/s.exec(String(answer[key.replace(/_width$/, "_data")]));
      const percent = Math.min(100, Math.max(0, parseFloat(answer[key]) || 0));
      return { name, value, percent };
    });
}

function makeBar({ name, value, percent }, isTop) {
  const item = make("li", isTop ? "bar top-bar" : "bar", "");
  const words = make("p", "", "");
  words.append(make("span", "name", name), " ", make("span", "value", value));
  const track = make("div", "track", "");
  const fill = make("div", "fill", "");
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  item.append(words, track);
  // Set a frame later, so that the change from nothing is animated (by style object: the policy allows no style="").
  requestAnimationFrame(() => requestAnimationFrame(() => (fill.style.width = `${percent}%`)));
  return item;
}

function showAnswer(answer) {
  const bars = readBars(answer);
  const top = Math.max(...bars.map((bar) => bar.percent));
  const list = make("ul", "bars", "");
  list.append(...bars.map((bar) => makeBar(bar, bar.percent === top)));
  const children = [make("p", "label", "모델의 답"), make("p", "prediction", String(answer.prediction ?? "")), list];
  for (const field of fields) {
    if (answer[field.name]) children.push(make("blockquote", "", String(answer[field.name])));
  }
  show("done", ...children);
}

async function ask(texts) {
  const response = await fetch("api", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(texts),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return showAnswer(answer);
  const words = WORDS_BY_STATUS[response.status];
  const fallback = `서버가 알 수 없는 답을 보냈습니다 (${response.status}). 잠시 뒤에 다시 보내 주세요.`;
  return showError(answer?.error?.message ?? words ?? fallback, answer?.error?.field);
}

function describeFailure(error) {
  if (error.name === "TimeoutError") return "1분 동안 답이 없습니다. 서버가 바쁜 것 같으니 잠시 뒤에 다시 보내 주세요.";
  if (!navigator.onLine) return "인터넷 연결이 끊겼습니다. 연결을 확인하고 다시 보내 주세요.";
  return "서버에 닿지 못했습니다. 노트북의 서버가 꺼지지 않았는지 확인하고 다시 보내 주세요.";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (submit.disabled) return;
  submit.disabled = true;
  fields.forEach((field) => field.removeAttribute("aria-invalid"));
  showLoading();
  try {
    await ask(Object.fromEntries(fields.map((field) => [field.name, field.value])));
  } catch (error) {
    showError(describeFailure(error));
  } finally {
    submit.disabled = false;
  }
});

function updateCount(field) {
  const count = document.getElementById(`count-${field.name}`);
  const max = Number(count.dataset.max);
  const length = [...field.value].length;
  count.textContent = `${length.toLocaleString("ko")} / ${max.toLocaleString("ko")}자`;
  count.classList.toggle("over", length > max);
}

for (const field of fields) {
  field.addEventListener("input", () => {
    field.removeAttribute("aria-invalid");
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
  chip.addEventListener("click", () => {
    JSON.parse(chip.dataset.values).forEach((text, index) => {
      fields[index].value = text;
      updateCount(fields[index]);
    });
    form.requestSubmit();
  });
}

fields.forEach(updateCount); // the browser may have kept what was typed before a reload

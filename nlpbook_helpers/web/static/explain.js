// "왜?": the texts again, with the tokens that drove the answer highlighted.
import { getShortName, makeQuotes } from "./answer.js";
import { post } from "./api.js";
import { formatCount, isBusy, make, makeButton, setBusy } from "./dom.js";

const MOST_TOKENS_LISTED = 3;
const WEAKEST_MARKED = 0.08; // of the strongest: fainter ones would only be noise

const formatScore = (score) => `${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;

// Fills `place` with the texts and, where the function can explain itself, the button.
export function offerExplanation(place, texts, canExplain) {
  place.hidden = false;
  place.replaceChildren(...makeQuotes(texts));
  if (!canExplain) return;
  const button = makeButton("왜?", "secondary why", () => explain(place, texts, button, note));
  const note = make("span", { className: "note", role: "status" }, "어느 말이 답을 정했는지 봅니다.");
  place.append(make("div", { className: "send" }, button, note));
}

async function explain(place, texts, button, note) {
  if (isBusy(button)) return;
  setBusy(button, true);
  note.textContent = "말마다 따져 보고 있습니다…";
  try {
    const shown = makeExplanation(await post("api/explain", texts), texts);
    if (!button.isConnected) return; // another answer has taken this place meanwhile
    place.replaceChildren(...shown);
    place.querySelector("h2").focus(); // the button is gone: read on from here
  } catch (error) {
    note.textContent = error.waitSeconds ? `${error.message} ${error.waitSeconds}초 뒤에 다시 눌러 주세요.` : error.message;
    setBusy(button, false);
  }
}

function makeExplanation({ prediction, tokens, completeness }, texts) {
  const name = getShortName(String(prediction));
  const strongest = Math.max(...tokens.map((token) => Math.abs(token.score)), 1e-9);
  const getTokens = (field) => tokens.filter((token) => token.field === field);
  const makeMark = (className) => make("mark", { className, "aria-hidden": "true" }, "가");
  const legend = [
    make("span", {}, makeMark("for"), ` ${name} 쪽`),
    make("span", {}, makeMark("against"), " 반대쪽"),
    make("span", {}, "짙을수록 영향이 큽니다"),
  ];
  const [sum, difference] = [completeness?.sum ?? 0, completeness?.difference ?? 0].map(formatScore);
  const check = `검산: 점수의 합 ${sum}, 빈 글과 견준 모델 점수의 차이 ${difference}. 둘이 가까울수록 믿을 만합니다.`;
  return [
    make("h2", { tabIndex: -1 }, `왜 ‘${name}’일까요?`),
    ...makeQuotes(texts, (text, field) => markTokens(text, getTokens(field), strongest)),
    ...Object.entries(texts).flatMap(([field, text]) => sayWhatWasRead(text, getTokens(field))),
    make("p", { className: "legend" }, ...legend),
    ...makeStrongest(tokens, name, WEAKEST_MARKED * strongest),
    ...(completeness ? [make("p", { className: "note" }, check)] : []),
  ];
}

// Of a text longer than the model reads at once, one window is explained, or what is left after cutting: say which part.
function sayWhatWasRead(text, tokens) {
  const characters = [...text];
  const start = Math.min(...tokens.map((token) => token.start));
  const end = Math.max(...tokens.map((token) => token.end));
  const isWhole = !tokens.length || !(characters.slice(0, start).join("") + characters.slice(end).join("")).trim();
  if (isWhole) return [];
  const [from, to, all] = [start + 1, end, characters.length].map(formatCount);
  return [make("p", { className: "note" }, `글이 길어 ${all}자 가운데 ${from}~${to}번째 글자만 살펴봤습니다.`)];
}

// The text cut at its tokens. Positions count whole characters, as in Python; JavaScript's strings count halves of some.
function markTokens(text, tokens, strongest) {
  const characters = [...text];
  const slice = (start, end) => characters.slice(start, end).join("");
  const pieces = [];
  let position = 0;
  for (const token of [...tokens].sort((a, b) => a.start - b.start)) {
    const strength = Math.abs(token.score) / strongest;
    if (strength < WEAKEST_MARKED || token.start < position || token.end <= token.start) continue;
    pieces.push(slice(position, token.start));
    const properties = { className: token.score < 0 ? "against" : "for", title: formatScore(token.score) };
    const mark = make("mark", properties, slice(token.start, token.end));
    mark.style.setProperty("--strength", strength.toFixed(3));
    pieces.push(mark);
    position = token.end;
  }
  return [...pieces, slice(position)];
}

// The numbers of the strongest tokens as plain text: for touch, keyboard and screen reader, which have no tooltip.
function makeStrongest(tokens, name, faintest) {
  const makeGroup = ([title, sign]) => {
    const chosen = tokens.filter(({ score }) => sign * score >= faintest).sort((a, b) => sign * (b.score - a.score));
    const items = chosen.slice(0, MOST_TOKENS_LISTED).map(({ text, score }) => make("dd", {}, `${text} ${formatScore(score)}`));
    return items.length ? [make("div", {}, make("dt", {}, title), ...items)] : [];
  };
  return [make("dl", { className: "strongest" }, ...[[`${name} 쪽으로`, 1], ["반대쪽으로", -1]].flatMap(makeGroup))];
}

// "왜?": the texts again, with the words that drove the answer highlighted.
import { getShortName, makeQuotes } from "./answer.js";
import { post } from "./api.js";
import { formatCount, isBusy, isolate, make, makeButton, say, setBusy } from "./dom.js";

const MOST_LISTED = 3;
const LONGEST_WORD = 15; // characters; a text written without spaces is better seen in pieces
const WEAKEST_MARKED = 0.08; // of the strongest: fainter ones would only be noise

const formatScore = (score) => `${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;

export const canExplain = document.body.dataset.canExplain === "yes";

// Fills `place` with the texts and, where the function can explain itself, the button.
export function offerExplanation(place, texts) {
  place.hidden = false;
  place.replaceChildren(...makeQuotes(texts));
  if (!canExplain) return;
  const button = makeButton(say("why"), "secondary why", () => explain(place, texts, button, note));
  const note = make("span", { className: "note", role: "status" }, say("why_note"));
  place.append(make("div", { className: "send" }, button, note));
}

async function explain(place, texts, button, note) {
  if (isBusy(button)) return;
  setBusy(button, true);
  note.textContent = say("why_working");
  try {
    const shown = makeExplanation(await post("api/explain", texts), texts);
    if (!place.contains(button)) return; // another answer has taken this place meanwhile
    place.replaceChildren(...shown);
    place.querySelector("h2").focus(); // the button is gone: read on from here
  } catch (error) {
    note.textContent = error.waitSeconds ? say("why_again", { message: error.message, left: error.waitSeconds }) : error.message;
    setBusy(button, false);
  }
}

function makeExplanation({ prediction, tokens, completeness }, texts) {
  const name = getShortName(String(prediction));
  const words = Object.fromEntries(
    Object.entries(texts).map(([field, text]) => [field, joinWords(text, tokens.filter((token) => token.field === field))]),
  );
  const all = Object.values(words).flat();
  const strongest = Math.max(...all.map((word) => Math.abs(word.score)), 1e-9);
  const makeMark = (className) => make("mark", { className, "aria-hidden": "true" }, "가");
  const legend = [
    make("span", {}, makeMark("for"), " ", say("why_for", { name })),
    make("span", {}, makeMark("against"), " ", say("why_against")),
    make("span", {}, say("why_strength")),
  ];
  const [sum, difference] = [completeness?.sum ?? 0, completeness?.difference ?? 0].map(formatScore);
  return [
    make("h2", { tabIndex: -1 }, say("why_title", { name })),
    ...makeQuotes(texts, (text, field) => markWords(text, words[field], strongest)),
    ...Object.entries(texts).flatMap(([field, text]) => sayWhatWasRead(text, words[field])),
    make("p", { className: "legend" }, ...legend),
    makeStrongest(all, name),
    ...(completeness ? [make("p", { className: "note" }, say("why_check", { sum, difference }))] : []),
  ];
}

// A tokenizer's pieces mean nothing to a reader: those between two spaces are one word, with the sum of their scores.
// Positions count whole characters, as in Python; JavaScript's strings count halves of some.
function joinWords(text, tokens) {
  const characters = [...text];
  const slice = (start, end) => characters.slice(start, end).join("");
  const words = [];
  let spaceBefore = 0;
  for (const { start, end, score } of [...tokens].sort((a, b) => a.start - b.start)) {
    const last = words.at(-1);
    const isSame = last && !/\s/.test(slice(last.end, start)) && end - spaceBefore <= LONGEST_WORD;
    if (isSame) Object.assign(last, { end: Math.max(end, last.end), score: last.score + score });
    else if (end > start) words.push({ start: Math.max(start, last?.end ?? 0), end, score });
    if (!isSame) spaceBefore = start;
  }
  return words.map((word) => ({ ...word, text: slice(word.start, word.end) }));
}

// Of a text longer than the model reads at once, one window is explained, or what is left after cutting: say which part.
function sayWhatWasRead(text, words) {
  const characters = [...text];
  const [start, end] = [words[0]?.start, words.at(-1)?.end];
  const isWhole = !words.length || !(characters.slice(0, start).join("") + characters.slice(end).join("")).trim();
  if (isWhole) return [];
  const [from, to, all] = [start + 1, end, characters.length].map(formatCount);
  return [make("p", { className: "note" }, say("why_part", { from, to, all }))];
}

function markWords(text, words, strongest) {
  const characters = [...text];
  const slice = (start, end) => characters.slice(start, end).join("");
  const pieces = [];
  let position = 0;
  for (const { start, end, score, text: word } of words) {
    const strength = Math.abs(score) / strongest;
    if (strength < WEAKEST_MARKED) continue;
    const mark = make("mark", { className: score < 0 ? "against" : "for", title: formatScore(score) }, word);
    mark.style.setProperty("--strength", strength.toFixed(3));
    pieces.push(slice(position, start), mark);
    position = end;
  }
  return [...pieces, slice(position)];
}

// The strongest words as plain text: for touch, keyboard and screen reader, which have no tooltip. Each stands here
// once, however often it is in the texts: on the side of the sum of its scores.
function makeStrongest(words, name) {
  const scores = new Map();
  for (const { text, score } of words) {
    const word = text.replace(/^[\p{P}\p{S}]+|[\p{P}\p{S}]+$/gu, "") || text;
    scores.set(word, (scores.get(word) ?? 0) + score);
  }
  const strongest = Math.max(...[...scores.values()].map(Math.abs));
  const makeGroup = ([title, sign]) => {
    const chosen = [...scores].filter(([, score]) => sign * score >= WEAKEST_MARKED * strongest);
    const first = chosen.sort((a, b) => sign * (b[1] - a[1])).slice(0, MOST_LISTED);
    const items = first.map(([word, score]) => make("dd", {}, isolate(word), ` ${formatScore(score)}`));
    return items.length ? [make("div", {}, make("dt", {}, title), ...items)] : [];
  };
  const groups = [[say("why_for_to", { name }), 1], [say("why_against_to"), -1]];
  return make("dl", { className: "strongest" }, ...groups.flatMap(makeGroup));
}

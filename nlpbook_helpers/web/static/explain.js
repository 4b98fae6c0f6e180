// "왜?": the texts again, with the words that drove the answer highlighted.
import { getShortName, makeQuotes } from "./answer.js";
import { makeAskingButton, post } from "./api.js";
import { fill, isolate, make, makeNote, page, say } from "./dom.js";

const MOST_LISTED = 3;
const LONGEST_WORD = 15; // characters; a text written without spaces is better seen in pieces
const WEAKEST_MARKED = 0.08; // of the strongest: fainter ones would only be noise

const formatScore = (score) => `${score < 0 ? "−" : "+"}${Math.abs(score).toFixed(2)}`;
const findStrongest = (scores) => Math.max(...scores.map(Math.abs), 1e-9);

// Fills `place` with the texts and, where the function can explain itself, the button.
export function offerExplanation(place, texts) {
  const note = make("span", { className: "note", role: "status" }, say("why_note"));
  const button = makeAskingButton(say("why"), "secondary why", note, async () => {
    fill(note, say("why_working"));
    const shown = makeExplanation(await post("api/explain", texts), texts);
    if (!place.contains(button)) return; // another answer has taken this place meanwhile
    fill(place, shown);
    place.querySelector("h2").focus(); // the button is gone: read on from here
  });
  fill(place, makeQuotes(texts), page.can_explain && make("div", { className: "send" }, button, note));
}

function makeExplanation({ prediction, tokens, completeness }, texts) {
  const name = getShortName(String(prediction));
  const parts = Object.fromEntries(
    Object.entries(texts).map(([field, text]) => [field, split(text, tokens.filter((token) => token.field === field))]),
  );
  const words = Object.values(parts).flat().filter((part) => part.score !== undefined);
  const strongest = findStrongest(words.map((word) => word.score));
  const [sum, difference] = [completeness?.sum ?? 0, completeness?.difference ?? 0].map(formatScore);
  return [
    make("h2", { tabIndex: -1 }, say("why_title", { name })),
    makeQuotes(texts, (_, field) => parts[field].map((part) => markPart(part, strongest))),
    Object.values(parts).map(sayWhatWasRead),
    makeStrongest(words, name),
    make("p", { className: "note legend" }, say("why_strength")),
    completeness && makeNote(say("why_check", { sum, difference })),
  ];
}

// The whole text in parts: words with their scores, and what lies between them. A tokenizer's pieces mean nothing to a
// reader: those between two spaces are one word, with the sum of their scores. Positions count whole characters, as in
// Python; JavaScript's strings count halves of some.
function split(text, tokens) {
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
  const ends = [0, ...words.map((word) => word.end)];
  const parts = words.map(({ start, end, score }, index) => [
    { text: slice(ends[index], start) },
    { text: slice(start, end), score },
  ]);
  return [...parts.flat(), { text: slice(ends.at(-1)) }];
}

// Of a text longer than the model reads at once, one window is explained, or what is left after cutting: say which.
function sayWhatWasRead(parts) {
  const [before, after] = [parts[0].text, parts.at(-1).text];
  if (parts.length === 1 || !(before + after).trim()) return undefined;
  const count = (text) => [...text].length;
  const all = count(parts.map((part) => part.text).join(""));
  return makeNote(say("why_part", { from: count(before) + 1, to: all - count(after), all }));
}

function markPart({ text, score = 0 }, strongest) {
  const strength = Math.abs(score) / strongest;
  if (strength < WEAKEST_MARKED) return text;
  const className = score < 0 ? "against" : "for";
  return make("mark", { className, title: formatScore(score), style: `--strength: ${strength.toFixed(3)}` }, text);
}

// What the colours mean, and the strongest words as plain text: for touch, keyboard and screen reader, which have no
// tooltip. Each stands here once, however often it is in the texts: on the side of the sum of its scores.
function makeStrongest(words, name) {
  const scores = new Map();
  for (const { text, score } of words) {
    const word = text.replace(/^[\p{P}\p{S}]+|[\p{P}\p{S}]+$/gu, "") || text;
    scores.set(word, (scores.get(word) ?? 0) + score);
  }
  const weakest = WEAKEST_MARKED * findStrongest([...scores.values()]);
  const makeGroup = (side, sign) => {
    const chosen = [...scores].filter(([, score]) => sign * score >= weakest);
    const first = chosen.sort((a, b) => sign * (b[1] - a[1])).slice(0, MOST_LISTED);
    const items = first.map(([word, score]) => make("dd", {}, isolate(word), ` ${formatScore(score)}`));
    const key = make("mark", { className: side, ariaHidden: "true" }, "가");
    return items.length > 0 && make("div", {}, make("dt", {}, key, ` ${say(`why_${side}`, { name })}`), items);
  };
  return make("dl", { className: "strongest" }, makeGroup("for", 1), makeGroup("against", -1));
}

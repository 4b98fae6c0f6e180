// Reads the book's dictionary, and shows it as a headline and bars.
import { fields, getLabel, isEnglish, isolate, make, page, say, translate } from "./dom.js";

const PARTS_OF_NAME = /^(.*\S)\s*\(([^()]+)\)$/s; // "긍정 (positive)"
const UNSURE_BELOW = 60; // percent
const OFTEN = 20; // times in 100: a model that errs as often says so with each answer

// Each X_width ("98.76%") of the answer with its X_data ("긍정 0.9876") is a bar; all of them by their X.
function readBars(answer) {
  const bars = {};
  for (const [key, width] of Object.entries(answer)) {
    const [, id] = /^(.*)_width$/s.exec(key) ?? [];
    const [, name, value] = /^(.*?)\s*(\S*)$/s.exec(answer[`${id}_data`] ?? "");
    if (!value) continue;
    const percent = Math.min(100, Math.max(0, parseFloat(width) || 0));
    // A value that is the bar's width is a probability and reads better as percent; a rating of "4.2", say, stays.
    const isShare = Math.abs(Number(value) * 100 - percent) < 0.01;
    const words = isShare ? formatPercent(percent) : value;
    bars[id] = { name: translateName(answer, name), value, percent, isShare, words };
  }
  return bars;
}

// As many decimals in each row of a column, but none for the round percentages of pairs.
export function formatPercent(percent, decimals = 2) {
  const digits = Number.isInteger(percent) ? 0 : decimals;
  return `${percent.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}%`;
}

// "긍정 (positive)" is "긍정", or in English "positive".
export const getShortName = (label) => PARTS_OF_NAME.exec(label)?.[isEnglish ? 2 : 1] ?? label;

// The answer's words for a label are Korean; in English, the label of that name has others.
function translateName({ prediction, probabilities }, name) {
  const labels = Object.keys(probabilities ?? { [prediction]: 1 });
  return getShortName(labels.find((label) => PARTS_OF_NAME.exec(label)?.[1] === name) ?? name);
}

// "긍정이에요", "부정에 가까워요"; a name that does not end in Hangul stays as it is.
function describePrediction(name, percent) {
  const last = name.charCodeAt(name.length - 1) - 0xac00;
  if (isEnglish || !(last >= 0 && last < 11172)) return name;
  if (percent < UNSURE_BELOW) return `${name}에 가까워요`;
  return name + (last % 28 ? "이에요" : "예요"); // 28 finals a syllable, the first of them none
}

// Everything the page says about one answer; also what the history keeps.
export function summarize(answer) {
  const bars = readBars(answer);
  const prediction = String(answer.prediction ?? "");
  const short = getShortName(prediction);
  // The bar that the prediction names, else the longest; of labels that begin with the same word, the longest of those.
  const sorted = Object.values(bars).sort((a, b) => b.percent - a.percent);
  const named = sorted.filter((bar) => [prediction, short].includes(bar.name));
  const top = named[0] ?? sorted[0];
  // The words before the brackets, unless another label has the same.
  const isAmbiguous = named.length > 1 || top?.name === prediction;
  const name = (isAmbiguous ? prediction : short) || top?.name || "";
  const share = top?.isShare ? top.percent : undefined;
  // Never "100%" for what is a little less.
  const shown = share === undefined ? "" : formatPercent(share < 100 ? Math.min(share, 99.9) : share, 1);
  const english = isAmbiguous || isEnglish ? undefined : PARTS_OF_NAME.exec(prediction)?.[2];
  const labels = Object.keys(answer.probabilities ?? {});
  return { bars, top, prediction, name, share, shown, english, labels, remark: answer.remark };
}

// A line that shows a share by its length.
export const makeTrack = (percent) =>
  make("div", { className: "track", style: `--share: ${percent}%`, ariaHidden: "true" });

export function makeBar(name, words, percent, isTop) {
  const [label, value] = [isolate(name, "name"), make("span", { className: "value" }, words)];
  return make("li", { className: isTop ? "bar top-bar" : "bar" }, make("p", {}, label, " ", value), makeTrack(percent));
}

// `errors`: how often in 100 the model errs that gave the answer.
export function makeAnswer(answer, { errors } = page) {
  const { bars, top, name, share, shown, english, remark } = summarize(answer);
  const list = Object.values(bars).map((bar) => makeBar(bar.name, bar.words, bar.percent, bar === top));
  if (!list.length && !name) return make("pre", {}, JSON.stringify(answer, null, 2));
  const headline = isolate(describePrediction(name, share ?? 100));
  return [
    make("p", { className: "label" }, say("answer"), Boolean(english) && ` · ${english}`),
    make("p", { className: "prediction" }, headline, " ", make("span", { className: "share" }, shown)),
    makeRemark(remark),
    makeWeakness(errors),
    make("ul", { className: "bars" }, list),
  ];
}

export const makeWeakness = (errors) => makeRemark(errors >= OFTEN && say("weak", { errors }));

// What to keep in mind when reading an answer, such as that most of the text was unknown to the model.
export const makeRemark = (remark) => Boolean(remark) && make("p", { className: "remark" }, translate(String(remark)));

// The texts that were asked about, each with its label if there are several.
export function makeQuotes(texts, makeContent = (text) => text) {
  return fields.map((field) => {
    const quote = make("blockquote", { tabIndex: 0, dir: "auto" }, makeContent(texts[field.name], field.name));
    if (fields.length === 1) return quote;
    return make("div", { className: "quote" }, make("span", { className: "label" }, getLabel(field)), quote);
  });
}

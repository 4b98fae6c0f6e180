// Reads the book's dictionary, and shows it as a headline and bars.
import { fields, getLabel, isEnglish, isolate, make, say, translate } from "./dom.js";

const PARTS_OF_NAME = /^(.*\S)\s*\(([^()]+)\)$/s; // "긍정 (positive)"
const UNSURE_BELOW = 60; // percent
const OFTEN = 20; // times in 100: a model that errs as often says so with each answer

// Each X_width ("98.76%") of the answer with its X_data ("긍정 0.9876") is a bar.
export function readBars(answer) {
  return Object.keys(answer)
    .filter((key) => key.endsWith("_width") && key.replace(/_width$/, "_data") in answer)
    .map((key) => {
      const [, name, value] = /^(.*?)\s*(\S*)$/s.exec(String(answer[key.replace(/_width$/, "_data")]));
      const percent = Math.min(100, Math.max(0, parseFloat(answer[key]) || 0));
      // A value that is the bar's width is a probability and reads better as percent; a rating of "4.2", say, stays.
      const isShare = Math.abs(Number(value) * 100 - percent) < 0.01;
      return { key, name: translateName(answer, name), value, percent, isShare, words: isShare ? formatPercent(percent) : value };
    });
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

// The bar that the prediction names, else the longest; of labels that begin with the same word, the longest of those.
export function getTopBar(bars, prediction) {
  const named = bars.filter((bar) => [prediction, getShortName(prediction)].includes(bar.name));
  return [...(named.length ? named : bars)].sort((a, b) => b.percent - a.percent)[0];
}

// "긍정이에요", "부정에 가까워요"; a name that does not end in Hangul stays as it is.
export function describePrediction(name, percent) {
  const last = name.charCodeAt(name.length - 1) - 0xac00;
  if (isEnglish || !(last >= 0 && last < 11172)) return name;
  if (percent < UNSURE_BELOW) return `${name}에 가까워요`;
  return name + (last % 28 ? "이에요" : "예요"); // 28 finals a syllable, the first of them none
}

// Everything the page says about one answer; also what the history keeps.
export function summarize(answer) {
  const bars = readBars(answer);
  const prediction = String(answer.prediction ?? "");
  const top = getTopBar(bars, prediction);
  // The words before the brackets, unless another label has the same.
  const isAmbiguous = bars.filter((bar) => bar.name === top?.name).length > 1 || top?.name === prediction;
  const name = (isAmbiguous ? prediction : getShortName(prediction)) || top?.name || "";
  const share = top?.isShare ? top.percent : undefined;
  // Never "100%" for what is a little less.
  const shown = share === undefined ? "" : formatPercent(share < 100 ? Math.min(share, 99.9) : share, 1);
  const english = isAmbiguous || isEnglish ? undefined : PARTS_OF_NAME.exec(prediction)?.[2];
  const labels = Object.keys(answer.probabilities ?? {});
  return { bars, top, prediction, name, share, shown, english, labels, remark: answer.remark };
}

export function makeTrack(percent) {
  const fill = make("div", { className: "fill" });
  // Set a frame later, so that the change from nothing is animated (by style object: the policy allows no style="").
  requestAnimationFrame(() => requestAnimationFrame(() => (fill.style.width = `${percent}%`)));
  return make("div", { className: "track", "aria-hidden": "true" }, fill);
}

export function makeBar(name, words, percent, isTop) {
  const [label, value] = [isolate(name, "name"), make("span", { className: "value" }, words)];
  return make("li", { className: isTop ? "bar top-bar" : "bar" }, make("p", {}, label, " ", value), makeTrack(percent));
}

// `errors`: how often in 100 the model errs that gave the answer.
export function makeAnswer(answer, { errors } = document.body.dataset) {
  const { bars, top, name, share, shown, english, remark } = summarize(answer);
  if (!bars.length && !name) return [make("pre", {}, JSON.stringify(answer, null, 2))];
  const headline = make("p", { className: "prediction" }, isolate(describePrediction(name, share ?? 100)));
  if (shown) headline.append(" ", make("span", { className: "share" }, shown));
  const label = make("p", { className: "label" }, english ? `${say("answer")} · ${english}` : say("answer"));
  const list = make("ul", { className: "bars" }, ...bars.map((bar) => makeBar(bar.name, bar.words, bar.percent, bar === top)));
  return [label, headline, ...makeRemark(remark), ...makeWeakness(errors), list];
}

export const makeWeakness = (errors) => makeRemark(errors >= OFTEN && say("weak", { errors }));

// What to keep in mind when reading an answer, such as that most of the text was unknown to the model.
export const makeRemark = (remark) => (remark ? [make("p", { className: "remark" }, translate(String(remark)))] : []);

// The texts that were asked about, each with its label if there are several.
export function makeQuotes(texts, makeContent = (text) => [text]) {
  return fields.map((field) => {
    const quote = make("blockquote", { tabIndex: 0, dir: "auto" }, ...makeContent(texts[field.name], field.name));
    if (fields.length === 1) return quote;
    return make("div", { className: "quote" }, make("span", { className: "label" }, getLabel(field)), quote);
  });
}

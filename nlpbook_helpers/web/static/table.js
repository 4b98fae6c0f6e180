// The answers of many inputs: how many of each, a table to sort, a file to take away.
import { formatPercent, getShortName, makeBar, makeRemark, makeTrack, makeWeakness } from "./answer.js";
import { formatCsv } from "./csv.js";
import { byId, fields, fill, formatCount, getLabel, isolate, make, makeButton, page, say, translate } from "./dom.js";
import { offerExplanation } from "./explain.js";
import { getColumnNames } from "./source.js";

const ROWS_AT_FIRST = 100; // any number of rows stays smooth when only these are drawn
const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });
const drawn = new WeakMap(); // answered items → their rows: what is opened stays so when more comes in, and when sorted
const [place, overview, box, more] = ["many-result", "many-overview", "many-rows", "many-more"].map(byId);

let items = [];
let source = {}; // where they come from, as getColumnNames tells: another may be chosen already
let sorted = { index: 0, direction: 1 };
let most = ROWS_AT_FIRST;

const getAnswered = () => items.filter((item) => item.summary);
const getFirst = () => getAnswered()[0]?.summary ?? { bars: {}, labels: [] }; // which bars and labels there are

// What each column is called, what it is sorted by, and what it shows.
function makeColumns() {
  return [
    { title: say("number"), className: "number", read: (item) => item.number },
    ...fields.map((field, index) => ({
      title: getLabel(field),
      className: "text",
      read: (item) => item.texts[field.name],
      show: (item) => showText(item, item.texts[field.name], index === 0),
    })),
    { title: say("verdict"), className: "verdict", read: (item) => item.summary?.name, show: showVerdict },
    ...Object.entries(getFirst().bars).map(([key, { name }]) => ({
      title: name,
      className: "probability",
      direction: -1,
      read: (item) => item.summary?.bars[key]?.percent,
      show: (item) => showShare(item.summary?.bars[key]),
    })),
  ];
}

// The first text of an answered row opens the whole of it below, and why it was answered so.
function showText({ texts, summary }, words, isFirst) {
  const text = make("div", { className: "clamped", dir: "auto" }, words);
  if (!isFirst || !summary || !page.can_explain) return text;
  const button = makeButton(text, "open-row", () => {
    const { rows } = button.closest("tbody");
    button.ariaExpanded = String(rows.length === 1);
    if (rows.length > 1) return rows[1].remove();
    const why = make("div", { className: "row-why" });
    offerExplanation(why, texts);
    rows[0].after(make("tr", {}, make("td", { colSpan: rows[0].cells.length }, why)));
    why.querySelector(".why").click();
  });
  return Object.assign(button, { title: say("why_note"), ariaExpanded: "false" });
}

function showVerdict({ summary, error }) {
  if (error) return make("span", { className: "field-error" }, error);
  if (!summary) return make("span", { className: "note" }, say("pending"));
  const share = make("span", { className: "share" }, summary.shown);
  return [make("strong", {}, isolate(summary.name)), " ", share, makeRemark(summary.remark)];
}

const showShare = (bar) => (bar ? [bar.words, makeTrack(bar.percent)] : "–");

function sort({ read }) {
  const compare = (a, b) => {
    const [x, y] = [read(a), read(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // unanswered last, always
    return sorted.direction * (typeof x === "number" ? x - y : collator.compare(x, y));
  };
  return [...items].sort((a, b) => compare(a, b) || a.number - b.number);
}

const makeTable = (heads, bodies) => make("table", {}, make("thead", {}, make("tr", {}, heads)), bodies);

function makeHead({ title, className, direction = 1 }, index) {
  const isSorted = index === sorted.index;
  const button = makeButton(title, "", () => {
    sorted = { index, direction: isSorted ? -sorted.direction : direction };
    draw();
    box.scrollTop = 0;
  });
  button.id = `sort-${index}`;
  const ariaSort = !isSorted ? "none" : sorted.direction > 0 ? "ascending" : "descending";
  return make("th", { scope: "col", className, ariaSort }, button);
}

// The row of an item, and the one opened below it, if any.
function getRows(item, columns) {
  const makeCell = ({ className, read, show = read }) => make("td", { className }, show(item));
  const rows = drawn.get(item) ?? make("tbody", {}, make("tr", {}, columns.map(makeCell)));
  if (item.summary) drawn.set(item, rows);
  return rows;
}

// How many inputs got which answer, the most frequent first; a label that none got is there with 0.
function makeCounts() {
  const answered = getAnswered();
  const counts = new Map(getFirst().labels.map((label) => [getShortName(label), 0]));
  for (const { summary } of answered) counts.set(summary.name, (counts.get(summary.name) ?? 0) + 1);
  const bars = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count], index) => {
    const percent = (100 * count) / answered.length;
    return makeBar(name, `${say("counted", { count })} · ${formatPercent(percent, 1)}`, percent, index === 0);
  });
  return make("ul", { className: "bars" }, bars);
}

// A label as files write it: whole, "긍정 (positive)", one of its two parts, or its place among the labels, "1".
const findLabel = (labels, written) =>
  labels.find((label, place) => [label, ...label.split(/\s*[()]/), String(place)].includes(written));

// How many answers agree with the column of right labels, and which is taken for which.
function makeComparison() {
  const { labels } = getFirst();
  if (!labels.length || !items.some((item) => item.right)) return undefined;
  const column = source.label;
  const names = labels.map(getShortName);
  const pairs = getAnswered().map(({ right, summary }) => [findLabel(labels, right), summary.prediction]);
  const known = pairs.filter(([right]) => right);
  if (!known.length) return makeRemark(say("no_label_matches", { column, names: names.join(", ") }));
  const all = known.length;
  const right = known.filter(([label, answer]) => label === answer).length;
  const percent = formatPercent((100 * right) / all, 1);
  const count = (row, cell) => formatCount(known.filter(([label, answer]) => label === row && answer === cell).length);
  const makeName = (name, scope) => make("th", { scope }, isolate(name));
  const makeRow = (row, index) => {
    const counts = labels.map((cell) => make("td", {}, count(row, cell)));
    return make("tr", {}, makeName(names[index], "row"), counts);
  };
  const heads = [say("confusion_head"), ...names].map((name) => makeName(name, "col"));
  const table = makeTable(heads, make("tbody", {}, labels.map(makeRow)));
  return [
    make("p", { className: "accuracy" }, say("accuracy", { column, all, right, percent })),
    make("div", { className: "table confusion", role: "region", ariaLabel: say("confusion"), tabIndex: 0 }, table),
  ];
}

function draw() {
  const columns = makeColumns();
  const rows = sort(columns[sorted.index] ?? columns[0]).slice(0, most);
  const left = items.length - rows.length;
  const isDone = items.every((item) => item.summary || item.error);
  const focused = document.activeElement;
  place.hidden = !items.length;
  fill(overview, isDone && [makeCounts(), makeWeakness(page.errors), makeComparison()]);
  fill(box, makeTable(columns.map(makeHead), rows.map((item) => getRows(item, columns))));
  more.hidden = !left;
  more.textContent = say("more_rows", { left });
  (byId(focused.id) ?? focused).focus({ preventScroll: true }); // a head is drawn anew, a row was taken out
}

// The sorting chosen, the focus and the place stay while more answers come in.
export function showResults(wanted) {
  if (wanted !== items) [most, source] = [ROWS_AT_FIRST, getColumnNames()];
  items = wanted;
  draw();
}

// The columns of the uploaded table, or the texts, and then the answers; no two columns of one name.
function makeCsv() {
  const bars = Object.entries(getFirst().bars);
  const shown = bars.map(([, { name }]) => name);
  const nameBar = ([key, { name }]) => (shown.indexOf(name) === shown.lastIndexOf(name) ? name : key);
  const remark = items.some((item) => item.summary?.remark) ? ["remark"] : [];
  const own = source.names;
  const kept = own ?? fields.map((field) => field.name);
  const added = ["prediction", ...bars.map(nameBar), ...remark, "error"];
  const header = [...kept, ...added.map((name) => (kept.includes(name) ? `model_${name}` : name))];
  const makeRow = ({ texts, row, summary, error }) => {
    const cells = own ? own.map((_, column) => row[column]) : kept.map((name) => texts[name]);
    const values = bars.map(([key]) => summary?.bars[key]?.value);
    return [...cells, summary?.prediction, ...values, ...remark.map(() => translate(summary?.remark)), error];
  };
  return formatCsv([header, ...items.map(makeRow)]);
}

more.addEventListener("click", () => {
  most *= 10;
  draw();
  if (more.hidden) box.focus();
});

byId("many-save").addEventListener("click", () => {
  const href = URL.createObjectURL(new Blob([makeCsv()], { type: "text/csv;charset=utf-8" }));
  const { title = "texts" } = source;
  make("a", { href, download: `${title.replace(/\.\w+$/, "")}-predictions.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000); // not at once: some browsers read it a moment later
});

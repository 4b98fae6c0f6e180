// The answers of many inputs: how many of each, a table to sort, a file to take away.
import { formatPercent, getShortName, makeBar, makeRemark, makeTrack, makeWeakness } from "./answer.js";
import { formatCsv } from "./csv.js";
import { fields, formatCount, getLabel, isolate, make, makeButton, say, translate } from "./dom.js";
import { canExplain, offerExplanation } from "./explain.js";
import { getColumnNames } from "./source.js";

const ROWS_AT_FIRST = 100; // any number of rows stays smooth when only these are drawn
const drawn = new WeakMap(); // answered items → their rows: what is opened stays so when more comes in, and when sorted
const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });

function makeColumns(items) {
  const bars = items.find((item) => item.summary)?.summary.bars ?? [];
  const findBar = (item, key) => item.summary?.bars.find((bar) => bar.key === key);
  return [
    { title: say("number"), className: "number", get: (item) => item.number, show: (item) => [String(item.number)] },
    ...fields.map((field, index) => ({
      title: getLabel(field),
      className: "text",
      get: (item) => item.texts[field.name],
      show: (item) => [showText(item, item.texts[field.name], index === 0)],
    })),
    { title: say("verdict"), className: "verdict", get: (item) => item.summary?.name, show: showVerdict },
    ...bars.map(({ key, name }) => ({
      title: name,
      className: "probability",
      firstDirection: -1,
      get: (item) => findBar(item, key)?.percent,
      show: (item) => showShare(findBar(item, key)),
    })),
  ];
}

// The first text of an answered row opens the whole of it below, and why it was answered so.
function showText(item, words, isFirst) {
  const { texts, summary } = item;
  const text = make("div", { className: "clamped", dir: "auto" }, words);
  if (!isFirst || !summary || !canExplain) return text;
  const button = make("button", { type: "button", className: "open-row", title: say("why_note"), "aria-expanded": "false" }, text);
  button.addEventListener("click", () => {
    const [row, opened] = drawn.get(item);
    button.setAttribute("aria-expanded", String(!opened));
    if (opened) return drawn.get(item).pop().remove();
    const place = make("div", { className: "row-why" });
    offerExplanation(place, texts);
    drawn.get(item).push(make("tr", {}, make("td", { colSpan: row.cells.length }, place)));
    row.after(drawn.get(item)[1]);
    place.querySelector(".why").click();
  });
  return button;
}

function showVerdict({ summary, error }) {
  if (error) return [make("span", { className: "row-error" }, error)];
  if (!summary) return [make("span", { className: "note" }, say("pending"))];
  const share = make("span", { className: "share" }, summary.shown);
  return [make("strong", {}, isolate(summary.name)), " ", share, ...makeRemark(summary.remark)];
}

const showShare = (bar) => (bar ? [bar.words, makeTrack(bar.percent)] : ["–"]);

function sort(items, column, direction) {
  const compare = (a, b) => {
    const [x, y] = [column.get(a), column.get(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // unanswered last, always
    return direction * (typeof x === "number" ? x - y : collator.compare(x, y));
  };
  return [...items].sort((a, b) => compare(a, b) || a.number - b.number);
}

function makeHead(columns, sorted, sortBy) {
  const cells = columns.map((column, index) => {
    const isSorted = index === sorted.index;
    const direction = isSorted ? -sorted.direction : column.firstDirection ?? 1;
    const button = makeButton(column.title, "", () => sortBy({ index, direction }));
    const words = { 1: "ascending", "-1": "descending" }[isSorted ? sorted.direction : 0] ?? "none";
    return make("th", { scope: "col", className: column.className, "aria-sort": words }, button);
  });
  return make("thead", {}, make("tr", {}, ...cells));
}

// The row of an item, and the one opened below it, if any.
function getRows(item, columns) {
  const rows = drawn.get(item) ?? [make("tr", {}, ...columns.map(({ className, show }) => make("td", { className }, ...show(item))))];
  if (item.summary) drawn.set(item, rows);
  return rows;
}

// How many inputs got which answer, the most frequent first; a label that none got is there with 0.
function makeCounts(items) {
  const answered = items.filter((item) => item.summary);
  const counts = new Map(answered.flatMap(({ summary }) => summary.labels.map((label) => [getShortName(label), 0])));
  for (const { summary } of answered) counts.set(summary.name, (counts.get(summary.name) ?? 0) + 1);
  const bars = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count], index) => {
    const percent = (100 * count) / answered.length;
    return makeBar(name, `${say("counted", { count: formatCount(count) })} · ${formatPercent(percent, 1)}`, percent, index === 0);
  });
  return make("ul", { className: "bars" }, ...bars);
}

// A label as files write it: whole, "긍정 (positive)", one of its two parts, or its place among the labels, "1".
function findLabel(labels, written) {
  const isSame = (label, place) => [label, ...label.split(/\s*[()]/), String(place)].includes(written);
  return labels.find(isSame);
}

// How many answers agree with the column of right labels, and which is taken for which.
function makeComparison(items) {
  const labels = items.find((item) => item.summary)?.summary.labels ?? [];
  const column = getColumnNames().label;
  if (!labels.length || !items.some((item) => item.right)) return [];
  const pairs = items.filter((item) => item.summary).map(({ right, summary }) => [findLabel(labels, right), summary.prediction]);
  const known = pairs.filter(([right]) => right);
  const names = labels.map(getShortName);
  if (!known.length) return [make("p", { className: "remark" }, say("no_label_matches", { column, names: names.join(", ") }))];
  const right = known.filter(([label, answer]) => label === answer).length;
  const values = { column, all: formatCount(known.length), right: formatCount(right), percent: formatPercent((100 * right) / known.length, 1) };
  const count = (row, cell) => formatCount(known.filter(([label, answer]) => label === row && answer === cell).length);
  const makeHead = (name, scope) => make("th", { scope }, isolate(name));
  const makeRow = (row, index) => make("tr", {}, makeHead(names[index], "row"), ...labels.map((cell) => make("td", {}, count(row, cell))));
  const head = make("thead", {}, make("tr", {}, makeHead(say("confusion_head"), "col"), ...names.map((name) => makeHead(name, "col"))));
  const table = make("table", {}, head, make("tbody", {}, ...labels.map(makeRow)));
  const box = make("div", { className: "table confusion", role: "region", "aria-label": say("confusion"), tabIndex: 0 }, table);
  return [make("p", { className: "accuracy" }, say("accuracy", values)), box];
}

// The columns of the uploaded table, or the texts, and then the answers; no two columns of one name.
export function makeCsv(items) {
  const bars = items.find((item) => item.summary)?.summary.bars ?? [];
  const nameColumn = ({ key, name }) => (bars.some((bar) => bar.name === name && bar.key !== key) ? key : name);
  const remark = items.some((item) => item.summary?.remark) ? ["remark"] : [];
  const own = getColumnNames().names;
  const kept = own ?? fields.map((field) => field.name);
  const added = ["prediction", ...bars.map(nameColumn), ...remark, "error"];
  const header = [...kept, ...added.map((name) => (kept.includes(name) ? `model_${name}` : name))];
  const makeRow = ({ texts, row, summary, error }) => {
    const cells = own ? own.map((_, column) => row[column]) : fields.map((field) => texts[field.name]);
    const values = bars.map(({ key }) => summary?.bars.find((bar) => bar.key === key)?.value);
    return [...cells, summary?.prediction, ...values, ...remark.map(() => translate(summary?.remark)), error];
  };
  return formatCsv([header, ...items.map(makeRow)]);
}

function download(items, fileName = "") {
  const url = URL.createObjectURL(new Blob([makeCsv(items)], { type: "text/csv;charset=utf-8" }));
  const link = make("a", { href: url, download: `${fileName.replace(/\.\w+$/, "") || "texts"}-predictions.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // not at once: some browsers read it a moment later
}

// Returns a function that shows items; the sorting chosen, the focus and the place stay while more answers come in.
export function setUpResults(place) {
  let sorted = { index: 0, direction: 1 };
  let most = ROWS_AT_FIRST;
  let shown = [];
  let title;
  const [overview, box] = [make("div", { className: "overview" }), make("div", { className: "table", role: "region", "aria-label": say("table"), tabIndex: 0 })];
  const more = makeButton("", "secondary", () => {
    most *= 10;
    draw();
    if (more.hidden) box.focus();
  });
  const save = makeButton(say("save"), "secondary", () => download(shown, title));
  place.replaceChildren(overview, box, make("div", { className: "send" }, more, save));
  const sortBy = (wanted) => {
    sorted = wanted;
    draw();
    box.scrollTop = 0;
  };

  function draw() {
    const columns = makeColumns(shown);
    const rows = sort(shown, columns[sorted.index] ?? columns[0], sorted.direction).slice(0, most);
    const left = shown.length - rows.length;
    const isDone = shown.every((item) => item.summary || item.error);
    const getHeads = () => [...box.querySelectorAll("th button")];
    const focused = document.activeElement;
    const head = getHeads().indexOf(focused); // it is drawn anew
    place.hidden = !shown.length;
    overview.replaceChildren(...(isDone ? [makeCounts(shown), ...makeWeakness(document.body.dataset.errors), ...makeComparison(shown)] : []));
    const body = make("tbody", {}, ...rows.flatMap((item) => getRows(item, columns)));
    box.replaceChildren(make("table", {}, makeHead(columns, sorted, sortBy), body));
    more.hidden = !left;
    more.textContent = say("more_rows", { left: formatCount(left) });
    (getHeads()[head] ?? focused).focus({ preventScroll: true });
  }

  return (items, fileName) => {
    if (items !== shown) most = ROWS_AT_FIRST;
    [shown, title] = [items, fileName];
    draw();
  };
}

// Where many texts come from: lines pasted, or a table (pasted or from a file) whose columns can be chosen.
import { decode, parseTable } from "./csv.js";
import { byId, fields, formatCount, getLabel, make, makeButton, say } from "./dom.js";

const MOST_BYTES = 50 * 2 ** 20;
const LONG_PASTE = 100; // lines
const LABEL_NAMES = ["label", "gold_label", "정답", "레이블", "라벨"];
const USUAL_COLUMNS = JSON.parse(document.body.dataset.columns); // what those of the texts are called; `predict` knows the same

let table; // { title, rows, hasHeader, columns: { field name: column number } }
let announceChange;

export const getTable = () => table;

export function showError(message) {
  byId("many-error").textContent = message;
  byId("many-error").hidden = !message;
}

function findColumns(rows) {
  const header = rows[0].map((cell) => cell.trim().normalize("NFC").toLowerCase());
  const usual = [fields.map((field) => field.name.toLowerCase()), fields.map((field) => getLabel(field).toLowerCase()), ...USUAL_COLUMNS];
  const known = usual.map((names) => names.map((name) => header.indexOf(name))).find((columns) => !columns.includes(-1));
  const label = header.findIndex((cell) => LABEL_NAMES.includes(cell));
  // Under other names: a word above numbers names their column, and the texts are what is longest.
  const some = rows.slice(0, 50);
  const isNumber = (cell = "") => Boolean(cell.trim()) && !isNaN(cell);
  const isAboveNumbers = (column) => rows.length > 1 && some.slice(1).every((row) => isNumber(row[column]));
  const isName = (cell, column) => usual.flat().includes(cell) || (cell && !isNumber(cell) && isAboveNumbers(column));
  const measure = (column) => some.reduce((sum, { [column]: cell = "" }) => sum + (isNumber(cell) ? 0 : cell.length), 0);
  const longest = header.map((_, column) => column).sort((a, b) => measure(b) - measure(a)).slice(0, fields.length);
  const columns = known ?? longest.sort((a, b) => a - b);
  return {
    hasHeader: label >= 0 || header.some(isName),
    label,
    columns: Object.fromEntries(fields.map((field, index) => [field.name, columns[index] ?? index])),
  };
}

// Without a table: one text a line, whatever commas and quotes are in it; several texts a line are cells.
function readLines() {
  const text = byId("many-text").value;
  const rows = fields.length > 1 ? parseTable(text) : text.split(/\r?\n/).filter((line) => line.trim()).map((line) => [line]);
  const columns = Object.fromEntries(fields.map((field, index) => [field.name, index]));
  return { rows, hasHeader: false, columns };
}

// The inputs: texts, as the API wants them, by name; and of a table the whole row, and the right label if it has one.
export function readInputs() {
  const { rows, hasHeader, columns, label = -1 } = table ?? readLines();
  const read = (row) => fields.map(({ name }) => [name, (row[columns[name]] ?? "").normalize("NFC")]);
  return rows.slice(hasHeader ? 1 : 0).map((row) => {
    const right = row[label]?.trim().normalize("NFC") || undefined;
    return { texts: Object.fromEntries(read(row)), row, right };
  });
}

// The names of all columns of the table, and of the one with the right labels; none where lines were pasted.
export function getColumnNames() {
  if (!table) return {};
  const width = countColumns(table);
  const nameColumn = (_, column) => (table.hasHeader && table.rows[0][column]?.trim()) || say("column", { number: column + 1 });
  const names = Array.from({ length: width }, nameColumn);
  return { names, label: names[table.label] };
}

const countColumns = ({ rows }) => rows.reduce((most, row) => Math.max(most, row.length), fields.length);

export const setTable = (title, rows) => restoreTable(rows && { title, rows, ...findColumns(rows) });

export function restoreTable(wanted) {
  table = wanted;
  announceChange();
  showTable();
}

async function readFile(file) {
  if (!file) return;
  announceChange();
  if (file.size > MOST_BYTES) return showError(say("file_too_large"));
  const text = decode(new Uint8Array(await file.arrayBuffer()));
  if (text === undefined) return showError(say("file_no_text", { name: file.name }));
  const rows = parseTable(text);
  if (!rows.length) return showError(say("file_empty", { name: file.name }));
  setTable(file.name, rows);
  const garbled = rows.findIndex((row) => row.join("").includes("\ufffd"));
  if (garbled >= 0) showError(say("file_garbled", { number: formatCount(garbled + 1) }));
}

// Names what will be read from the table, and lets it be corrected.
function showTable() {
  const place = byId("many-table");
  place.hidden = !table;
  byId("many-text").hidden = Boolean(table);
  if (!table) return;
  const count = formatCount(table.rows.length - (table.hasHeader ? 1 : 0));
  const wrapped = table.rows.filter((row) => row.some((cell) => /[\r\n]/.test(cell))).length; // a stray quote can take in rows
  const onchange = () => {
    table.hasHeader = header.checked;
    announceChange();
    showTable();
    place.querySelector("input").focus(); // it was drawn anew
  };
  const header = make("input", { type: "checkbox", checked: table.hasHeader, onchange });
  const remove = makeButton(say("remove"), "secondary", () => {
    byId("many-text").value = "";
    setTable();
    byId("many-text").focus();
  });
  place.replaceChildren(
    make("p", {}, make("strong", {}, table.title), ` ${say("rows", { count })} `, wrapped ? say("wrapped", { count: formatCount(wrapped) }) : ""),
    ...fields.map((field) => makeColumnChoice(say("column_of", { name: getLabel(field) }), table.columns, field.name)),
    makeColumnChoice(say("label_column"), table, "label", true),
    make("label", { className: "check" }, header, say("has_header")),
    remove,
  );
}

// A choice of a column; what is chosen is written to place[key].
function makeColumnChoice(title, place, key, mayBeNone = false) {
  const { rows, hasHeader } = table;
  const onchange = () => {
    place[key] = Number(select.value);
    announceChange();
  };
  const select = make("select", { onchange });
  if (mayBeNone) select.append(make("option", { value: -1 }, say("no_column")));
  for (let column = 0; column < countColumns(table); column++) {
    const first = (rows[0][column] ?? "").slice(0, 20);
    const name = hasHeader && first.trim() ? first : say("column", { number: column + 1 }) + (first ? `: ${first}` : "");
    select.append(make("option", { value: column, selected: column === place[key] }, name));
  }
  return make("label", {}, title, select);
}

// `onChange` is called whenever other texts than before will be read; while `isLocked`, nothing is taken in.
export function setUpSource(onChange, isLocked) {
  announceChange = () => {
    showError("");
    onChange();
  };
  const [picker, panel, text] = ["many-picker", "panel-many", "many-text"].map(byId);
  text.addEventListener("paste", (event) => {
    // Chromium takes seconds to type a thousand lines itself; set at once they take none.
    const pasted = event.clipboardData.getData("text/plain");
    if (pasted.split("\n").length < LONG_PASTE || text.readOnly) return;
    event.preventDefault();
    text.setRangeText(pasted, text.selectionStart, text.selectionEnd, "end");
    text.dispatchEvent(new Event("input"));
  });
  text.addEventListener("input", () => {
    // A tab cannot be typed here: this comes from a spreadsheet.
    if (/^[^\r\n]*\t/.test(text.value)) setTable(say("pasted_table"), parseTable(text.value));
    else announceChange();
  });
  byId("many-choose").addEventListener("click", () => picker.click());
  picker.addEventListener("change", async () => {
    await readFile(picker.files[0]);
    picker.value = ""; // so that the same file, corrected, can be chosen again
  });
  panel.addEventListener("dragover", (event) => event.preventDefault()); // the browser would open the file itself
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!isLocked()) readFile(event.dataTransfer.files[0]);
  });
}

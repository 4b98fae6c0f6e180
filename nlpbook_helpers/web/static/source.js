// Where many texts come from: lines pasted, or a table (pasted or from a file) whose columns can be chosen.
import { decode, findSwallowed, isWrapped, parseTable } from "./csv.js";
import { byId, fields, fill, getLabel, make, page, say } from "./dom.js";

const MOST_BYTES = 50 * 2 ** 20;
const LABEL_NAMES = ["label", "gold_label", "정답", "레이블", "라벨"];
const [panel, input, picker, place] = ["panel-many", "many-text", "many-picker", "many-table"].map(byId);
const header = place.querySelector("input");
const selects = [...place.querySelectorAll("select")]; // of each field's column, and last of the right labels'

let table; // { title, rows, hasHeader, columns: the number chosen in each of `selects`, -1 for none }

export const getSource = () => ({ text: input.value, table });
export const showError = (message) => fill(byId("many-error"), message);

// Other texts than before will be read: many.js listens.
function announceChange() {
  showError();
  panel.dispatchEvent(new Event("source"));
}

const normalize = (cell = "") => cell.trim().normalize("NFC");

function findColumns(rows) {
  const header = rows[0].map((cell) => normalize(cell).toLowerCase());
  // By the function's own names, the page's, and those that `predict` knows.
  const own = [fields.map((field) => field.name), fields.map(getLabel)];
  const usual = [...own, ...page.columns].map((names) => names.map((name) => name.toLowerCase()));
  const places = usual.map((names) => names.map((name) => header.indexOf(name)));
  const known = places.find((columns) => !columns.includes(-1));
  const label = header.findIndex((cell) => LABEL_NAMES.includes(cell));
  // Under other names: a word above numbers names their column, and the texts are what is longest.
  const some = rows.slice(0, 50);
  const isNumber = (cell = "") => Boolean(cell.trim()) && !isNaN(cell);
  const isAboveNumbers = (column) => rows.length > 1 && some.slice(1).every((row) => isNumber(row[column]));
  const isName = (cell, column) => usual.flat().includes(cell) || (cell && !isNumber(cell) && isAboveNumbers(column));
  const measure = (column) => some.map((row) => (isNumber(row[column]) ? "" : row[column])).join("").length;
  const longest = header.map((_, column) => column).sort((a, b) => measure(b) - measure(a)).slice(0, fields.length);
  const found = known ?? longest.sort((a, b) => a - b);
  return {
    hasHeader: label >= 0 || header.some(isName),
    columns: [...fields.map((_, index) => found[index] ?? index), label],
  };
}

// Without a table: one text a line, whatever commas and quotes are in it; several texts a line are cells.
function readLines() {
  const lines = input.value.split(/\r?\n/).filter((line) => line.trim());
  const rows = fields.length > 1 ? parseTable(input.value) : lines.map((line) => [line]);
  return { rows, hasHeader: false, columns: [...fields.keys()] };
}

// The inputs: texts, as the API wants them, by name; and of a table the whole row, and the right label if it has one.
export function readInputs() {
  const { rows, hasHeader, columns } = table ?? readLines();
  return rows.slice(hasHeader ? 1 : 0).map((row, index) => {
    const texts = fields.map(({ name }, field) => [name, (row[columns[field]] ?? "").normalize("NFC")]);
    const right = normalize(row[columns[fields.length]]) || undefined;
    return { number: index + 1, texts: Object.fromEntries(texts), row, right };
  });
}

// The title of the table, and the names of all its columns and of the one with the right labels; none of lines.
export function getColumnNames() {
  if (!table) return {};
  const { title, rows, hasHeader, columns } = table;
  const width = rows.reduce((most, row) => Math.max(most, row.length), fields.length);
  const nameColumn = (_, column) => (hasHeader && rows[0][column]?.trim()) || say("column", { number: column + 1 });
  const names = Array.from({ length: width }, nameColumn);
  return { title, names, label: names[columns.at(-1)] };
}

export const setTable = (title, rows) => setSource({ table: { title, rows, ...findColumns(rows) } });

export function setSource({ text = "", table: wanted }) {
  input.value = text;
  table = wanted;
  announceChange();
  showTable();
}

async function readFile(file) {
  if (!file) return;
  announceChange();
  if (file.size > MOST_BYTES) return showError(say("file_too_large"));
  const { name } = file;
  const text = decode(new Uint8Array(await file.arrayBuffer()));
  if (text === undefined) return showError(say("file_no_text", { name }));
  const rows = parseTable(text);
  if (!rows.length) return showError(say("file_empty", { name }));
  setTable(name, rows);
  const garbled = rows.findIndex((row) => row.join("").includes("\ufffd"));
  if (garbled >= 0) showError(say("file_garbled", { number: garbled + 1 }));
}

// Names what will be read from the table, and lets it be corrected.
function showTable() {
  input.hidden = Boolean(table);
  place.hidden = !table;
  if (!table) return;
  const { title, rows, hasHeader, columns } = table;
  const count = rows.length - (hasHeader ? 1 : 0);
  const wrapped = rows.filter(isWrapped).length;
  const warning = wrapped > 0 && say("wrapped", { count: wrapped });
  const number = findSwallowed(rows) + 1;
  const swallowed = number > 0 && make("strong", { className: "field-error" }, say("swallowed", { number }));
  fill(byId("many-about"), make("strong", {}, title), " ", say("rows", { count }), " ", warning, " ", swallowed);
  header.checked = hasHeader;
  const names = getColumnNames().names.map((name, column) => {
    const first = rows[0][column]?.slice(0, 20);
    return hasHeader || !first ? name : `${name}: ${first}`;
  });
  selects.forEach((select, index) => {
    const none = index === fields.length && make("option", { value: -1 }, say("no_column"));
    fill(select, none, names.map((name, column) => make("option", { value: column }, name)));
    select.value = columns[index];
  });
}

input.addEventListener("input", () => {
  // A tab cannot be typed here: this comes from a spreadsheet.
  if (/^[^\r\n]*\t/.test(input.value)) setTable(say("pasted_table"), parseTable(input.value));
  else announceChange();
});
place.addEventListener("change", () => {
  Object.assign(table, { hasHeader: header.checked, columns: selects.map((select) => Number(select.value)) });
  announceChange();
  showTable();
});
byId("many-remove").addEventListener("click", () => {
  setSource({});
  input.focus();
});
byId("many-choose").addEventListener("click", () => picker.click());
picker.addEventListener("change", async () => {
  await readFile(picker.files[0]);
  picker.value = ""; // so that the same file, corrected, can be chosen again
});
panel.addEventListener("dragover", (event) => event.preventDefault()); // the browser would open the file itself
panel.addEventListener("drop", (event) => {
  event.preventDefault();
  if (panel.ariaBusy === "false") readFile(event.dataTransfer.files[0]);
});

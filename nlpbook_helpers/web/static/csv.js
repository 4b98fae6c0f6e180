// Reads what spreadsheets write, and writes what they read.

// UTF-16 and CP949 are what Excel saves as "Unicode text" and, in Korea, as "CSV". A bad byte here and there becomes �;
// what is no text, such as a workbook, becomes nothing.
export function decode(bytes) {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  const count = (text, pattern) => text.length - text.replace(pattern, "").length;
  const isSound = (text) => !text.includes("\ufffd") || 2 * count(text, /\ufffd/g) <= count(text, /[^\0-\x7f]/g);
  const isText = (text) => !text.includes("\0") && isSound(text);
  const utf8 = new TextDecoder().decode(bytes);
  return [isText(utf8) ? utf8 : new TextDecoder("euc-kr").decode(bytes)].find(isText);
}

// A tab in the first line makes it tab-separated, else commas.
function guessSeparator(text) {
  return text.slice(0, text.search(/[\r\n]|$/)).includes("\t") ? "\t" : ",";
}

// Rows of cells. A cell in quotes may hold commas, line breaks and doubled quotes; a quote elsewhere is a character,
// and so is one that is not closed at the end of a cell: a text may begin with it. A tab is never within a text.
export function parseTable(text, separator = guessSeparator(text)) {
  const [inside, end] = [separator === "\t" ? '[^"\t]*' : '[^"]*', `(${separator}|\\r\\n?|\\n|$)`];
  const pattern = `(?:"(${inside}(?:""${inside})*)"(?=${end}))?([^${separator}\\r\\n]*)${end}`;
  const rows = [[]];
  for (const [, quoted = "", , rest, end] of text.replace(/^\ufeff/, "").matchAll(new RegExp(pattern, "gy"))) {
    rows.at(-1).push(quoted.replaceAll('""', '"') + rest);
    if (!end) break;
    if (end !== separator) rows.push([]);
  }
  return rows.filter((row) => row.length > 1 || row[0].trim());
}

export const isWrapped = (row) => row.some((cell) => /[\r\n]/.test(cell));

// Where one row is likely several: a stray quote that begins a text and one that ends another take in all between, and
// each line has as many cells as the table then. Commas stand in texts too: of two cells, the first ones have to be
// numbers, or the last ones what other rows end with. As `_are_whole_rows` of reading.py; -1 if there is none.
export function findSwallowed(rows) {
  const width = rows[0].length;
  const marks = new Set(rows.filter((row) => !isWrapped(row)).map((row) => row.at(-1).trim()));
  return rows.findIndex((row) => {
    if (width < 2 || !isWrapped(row)) return false;
    const lines = row.join(",").split(/\r\n?|\n/).map((line) => line.split(","));
    const proves = ([first, last]) => width > 2 || /^\s*\d+\s*$/.test(first) || marks.has(last.trim());
    return lines.every((cells) => cells.length === width && proves(cells));
  });
}

// A spreadsheet would run a cell that begins like this as a formula, unless it is a number; an apostrophe makes it
// text.
const defuse = (text) => (isNaN(text) && /^[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text);
const quote = (text) => (/[",\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// With the mark that tells Excel that it is UTF-8, and the line ends of RFC 4180.
export function formatCsv(rows) {
  return "\ufeff" + rows.map((row) => row.map((cell) => quote(defuse(String(cell ?? "")))).join(",") + "\r\n").join("");
}

// Reads what spreadsheets write, and writes what they read.

// UTF-16 and CP949 are what Excel saves as "Unicode text" and, in Korea, as "CSV".
export function decode(bytes) {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("euc-kr").decode(bytes);
  }
}

// A tab in the first line makes it tab-separated, else commas.
function guessSeparator(text) {
  return text.slice(0, text.search(/[\r\n]|$/)).includes("\t") ? "\t" : ",";
}

// Rows of cells. A cell in quotes may hold separators, line breaks and doubled quotes; a quote elsewhere is a character.
export function parseTable(text, separator = guessSeparator(text)) {
  const pattern = `(?:"([^"]*(?:""[^"]*)*)(?:"|$))?([^${separator}\\r\\n]*)(${separator}|\\r\\n?|\\n|$)`;
  const rows = [[]];
  for (const [, quoted = "", rest, end] of text.replace(/^\ufeff/, "").matchAll(new RegExp(pattern, "gy"))) {
    rows.at(-1).push(quoted.replaceAll('""', '"') + rest);
    if (!end) break;
    if (end !== separator) rows.push([]);
  }
  return rows.filter((row) => row.some((cell) => cell.trim()));
}

// A spreadsheet would run a cell that begins like this as a formula; an apostrophe makes it text.
const defuse = (text) => (/^[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text);
const quote = (text) => (/[",\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// With the mark that tells Excel that it is UTF-8, and the line ends of RFC 4180.
export function formatCsv(rows) {
  return "\ufeff" + rows.map((row) => row.map((cell) => quote(defuse(String(cell ?? "")))).join(",") + "\r\n").join("");
}

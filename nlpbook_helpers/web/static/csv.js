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
  const rows = [];
  let row = [];
  let cell = "";
  let isQuoted = false;
  let isAtStart = true; // of a cell: only there does a quote open
  const endCell = () => {
    row.push(cell);
    cell = "";
    isAtStart = true;
  };
  const endRow = () => {
    endCell();
    if (row.some((one) => one.trim())) rows.push(row);
    row = [];
  };
  for (let index = text.charCodeAt(0) === 0xfeff ? 1 : 0; index < text.length; index++) {
    const character = text[index];
    if (isQuoted) {
      if (character !== '"') cell += character;
      else if (text[index + 1] === '"') cell += text[++index];
      else isQuoted = false;
    } else if (character === '"' && isAtStart) {
      isQuoted = true;
      isAtStart = false;
    } else if (character === separator) endCell();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[index + 1] === "\n") index++;
      endRow();
    } else {
      cell += character;
      isAtStart = false;
    }
  }
  if (cell || row.length) endRow();
  return rows;
}

// A spreadsheet would run a cell that begins like this as a formula; an apostrophe makes it text.
const defuse = (text) => (/^[=+\-@\t\r＝＋－＠]/.test(text) ? `'${text}` : text);
const quote = (text) => (/[",\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// With the mark that tells Excel that it is UTF-8, and the line ends of RFC 4180.
export function formatCsv(rows) {
  return "\ufeff" + rows.map((row) => row.map((cell) => quote(defuse(String(cell ?? "")))).join(",") + "\r\n").join("");
}

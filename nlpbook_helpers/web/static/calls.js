// The same question as a curl and as a Python call, quoted so that any text survives; and what copies them.
import { post } from "./api.js";
import { byId, make, page, say } from "./dom.js";

// The real key is in a cookie that no script can read; its stand-in is ASCII, as headers are.
const HEADERS = { "Content-Type": "application/json", ...(page.has_key && { Authorization: "Bearer ACCESS_KEY" }) };

// In a POSIX shell nothing is special between single quotes but the single quote.
const quoteForShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function makeCurl(url, body) {
  const headers = Object.entries(HEADERS).map(([name, value]) => `-H ${quoteForShell(`${name}: ${value}`)}`);
  return [`curl ${quoteForShell(url)}`, ...headers, `-d ${quoteForShell(JSON.stringify(body))}`].join(" \\\n  ");
}

// Strings, objects and arrays of JSON are Python too: same quotes, same escapes.
const makePython = (url, body) => `import json
from urllib.request import Request, urlopen

body = ${JSON.stringify(body, null, 4)}
headers = ${JSON.stringify(HEADERS, null, 4)}
request = Request(${JSON.stringify(url)}, json.dumps(body).encode(), headers)
with urlopen(request) as response:
    print(json.load(response))`;

// Writes the calls of an address into the elements ID-curl and ID-python.
export function showCalls(id, path, body) {
  const url = new URL(path, location.origin + location.pathname).href;
  byId(`${id}-curl`).textContent = makeCurl(url, body);
  byId(`${id}-python`).textContent = makePython(url, body);
}

// Copies a text, and says so on the button for a moment.
export async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Inside a notebook's frame the clipboard may be closed to scripts, but not to a selection.
    const place = make("textarea", { value: text });
    button.after(place);
    place.select();
    document.execCommand("copy");
    place.remove();
    button.focus();
  }
  const words = button.dataset.words ??= button.textContent;
  button.textContent = say("copied");
  setTimeout(() => (button.textContent = words), 1500);
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => copy(button, byId(button.dataset.copies).textContent));
}

// The guide to the API has the calls of each address. Only an answer tells which labels there are.
for (const section of document.querySelectorAll("[data-body]")) {
  const body = JSON.parse(section.dataset.body.replaceAll("…", say("sample_text")));
  if (body.label) body.label = await post("api", body.input).then(({ prediction }) => prediction, String);
  showCalls(section.id, section.dataset.path, body);
}

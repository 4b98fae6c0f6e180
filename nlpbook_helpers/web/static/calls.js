// The same question as a curl and as a Python call, quoted so that any text survives.
import { byId, fields, hasKey, readTexts, say } from "./dom.js";

const AUTHORIZATION = "Bearer ACCESS_KEY"; // the real one is in a cookie that no script can read; ASCII, as headers are

// In a POSIX shell nothing is special between single quotes but the single quote.
const quoteForShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function makeCurl(url, body) {
  const headers = ["Content-Type: application/json", ...(hasKey ? [`Authorization: ${AUTHORIZATION}`] : [])];
  const options = [...headers.map((header) => ["-H", header]), ["-d", JSON.stringify(body)]];
  return [`curl ${quoteForShell(url)}`, ...options.map(([name, value]) => `${name} ${quoteForShell(value)}`)].join(" \\\n  ");
}

// A JSON string is a Python string too: same quotes, same escapes.
function makePython(url, body) {
  const pairs = Object.entries(body).map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)},`);
  const key = hasKey ? `, "Authorization": "${AUTHORIZATION}"` : "";
  return `import json
from urllib.request import Request, urlopen

body = {
${pairs.join("\n")}
}
headers = {"Content-Type": "application/json"${key}}
request = Request(${JSON.stringify(url)}, json.dumps(body).encode(), headers)
with urlopen(request) as response:
    print(json.load(response))`;
}

export async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // Inside a notebook's frame the clipboard may be closed to scripts, but not to a selection.
    getSelection().selectAllChildren(element);
    document.execCommand("copy");
  }
}

// Buttons that copy what stands beside them, and a function that writes the calls of an address into the page.
export function setUpCalls() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await copy(byId(button.dataset.copies));
      button.textContent = say("copied");
      setTimeout(() => (button.textContent = say("copy")), 1500);
    });
  }
  return (path, body, id) => {
    const url = new URL(path, location.origin + location.pathname).href;
    byId(`${id}-curl`).textContent = makeCurl(url, body);
    byId(`${id}-python`).textContent = makePython(url, body);
  };
}

export function setUpCallsOfForm() {
  const write = setUpCalls();
  const update = () => {
    const texts = readTexts();
    for (const name of Object.keys(texts)) texts[name] ||= say("sample_text");
    write("api", texts, "call");
  };
  for (const field of fields) field.addEventListener("input", update);
  update();
  return update;
}

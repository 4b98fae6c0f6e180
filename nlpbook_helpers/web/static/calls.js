// The same question as a curl and as a Python call, quoted so that any text survives.
import { byId, fields, readTexts } from "./dom.js";

const KEY_PLACEHOLDER = "<접속 열쇠>"; // the real one is in a cookie that no script can read

// In a POSIX shell nothing is special between single quotes but the single quote.
const quoteForShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function makeCurl(url, texts, hasKey) {
  const headers = ["Content-Type: application/json", ...(hasKey ? [`Authorization: Bearer ${KEY_PLACEHOLDER}`] : [])];
  const options = [...headers.map((header) => ["-H", header]), ["-d", JSON.stringify(texts)]];
  return [`curl ${quoteForShell(url)}`, ...options.map(([name, value]) => `${name} ${quoteForShell(value)}`)].join(" \\\n  ");
}

// A JSON string is a Python string too: same quotes, same escapes.
export function makePython(url, texts, hasKey) {
  const pairs = Object.entries(texts).map(([name, text]) => `    ${JSON.stringify(name)}: ${JSON.stringify(text)},`);
  const key = hasKey ? `, "Authorization": "Bearer ${KEY_PLACEHOLDER}"` : "";
  return `import json
from urllib.request import Request, urlopen

texts = {
${pairs.join("\n")}
}
headers = {"Content-Type": "application/json"${key}}
request = Request(${JSON.stringify(url)}, json.dumps(texts).encode(), headers)
with urlopen(request) as response:
    print(json.load(response))`;
}

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    // Inside a notebook's frame the clipboard may be closed to scripts, but not to a selection.
    getSelection().selectAllChildren(element);
    document.execCommand("copy");
  }
}

export function setUpCalls() {
  const url = new URL("api", location.origin + location.pathname).href;
  const hasKey = document.body.dataset.hasKey === "yes";
  const update = () => {
    const texts = readTexts();
    for (const name of Object.keys(texts)) texts[name] ||= "여기에 글을 적습니다.";
    byId("call-curl").textContent = makeCurl(url, texts, hasKey);
    byId("call-python").textContent = makePython(url, texts, hasKey);
  };
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await copy(byId(button.dataset.copies));
      button.textContent = "복사했습니다";
      setTimeout(() => (button.textContent = "복사"), 1500);
    });
  }
  for (const field of fields) field.addEventListener("input", update);
  update();
  return update;
}

// Many at once: inputs are sent in chunks; that can be stopped, and gone on with.
import { summarize } from "./answer.js";
import { countDown, post } from "./api.js";
import { byId, formatCount, say } from "./dom.js";
import { getTable, readInputs, restoreTable, setTable, setUpSource, showError } from "./source.js";
import { setUpResults } from "./table.js";

const BATCH_LIMIT = Number(document.body.dataset.batchLimit);
const MOST_CHARACTERS = 100_000; // in one request: servers bound its bytes
const FIRST_CHUNK = 32;
const SECONDS_PER_CHUNK = 1.5; // short enough for the progress to move, long enough to batch well
const MOST_WAITS = 20; // for a busy server, one after the other

let items = []; // { number, texts, row, right } and, once answered, answer and summary, or error
let stopping; // an AbortController while requests are sent
let showResults;

const isWaiting = (item) => !item.summary && !item.error;

function takeChunk(waiting, size) {
  let characters = 0;
  const isTooMuch = ({ texts }) => (characters += Object.values(texts).join("").length) > MOST_CHARACTERS;
  const end = waiting.slice(0, size).findIndex(isTooMuch);
  return waiting.slice(0, end < 0 ? size : Math.max(1, end));
}

function showProgress(words) {
  const done = items.filter((item) => !isWaiting(item)).length;
  const [bar, text] = byId("many-progress").children;
  Object.assign(bar, { max: items.length, value: done });
  text.textContent = words ?? `${formatCount(done)} / ${formatCount(items.length)}`;
}

async function ask(chunk) {
  const { results } = await post("api/batch", { inputs: chunk.map((item) => item.texts) }, stopping.signal);
  chunk.forEach((item, index) => {
    const { error } = results[index];
    if (error?.message) item.error = error.message;
    else Object.assign(item, { answer: results[index], summary: summarize(results[index]) });
  });
}

// Sends what is waiting; each chunk is as large as the server's pace allows.
async function askAll() {
  let size = FIRST_CHUNK;
  let waits = 0;
  for (let waiting; (waiting = items.filter(isWaiting)).length; ) {
    const chunk = takeChunk(waiting, Math.min(size, BATCH_LIMIT));
    const started = performance.now();
    try {
      await ask(chunk);
      waits = 0;
      const seconds = (performance.now() - started) / 1000;
      size = Math.max(8, Math.round(chunk.length * Math.min(4, SECONDS_PER_CHUNK / seconds)));
    } catch (error) {
      if (error.status === 413 && chunk.length > 1) size = Math.floor(chunk.length / 2);
      else if (error.status === 413) chunk[0].error = error.message;
      else if (error.waitSeconds && waits++ < MOST_WAITS) {
        const tell = (left) => showProgress(say("many_waits", { message: error.message, left }));
        await countDown(error.waitSeconds, tell, stopping.signal);
      } else throw error;
    }
    if (stopping.signal.aborted) return;
    showProgress();
    showResults(items, getTable()?.title);
  }
}

async function run() {
  if (stopping) return;
  if (!items.some(isWaiting)) items = readInputs().map((input, index) => ({ number: index + 1, ...input }));
  showError("");
  if (!items.length) {
    showError(say("many_nothing"));
    return byId("many-text").focus();
  }
  stopping = new AbortController();
  showRunning(true);
  try {
    await askAll();
  } catch (error) {
    if (!stopping.signal.aborted) showError(error.message);
  }
  stopping = undefined;
  showRunning(false);
}

function showRunning(isRunning) {
  const left = items.filter(isWaiting).length;
  const failed = items.filter((item) => item.error).length;
  const failedWords = failed ? ` ${say("many_failed", { failed: formatCount(failed) })}` : "";
  const isAway = document.activeElement.closest("#many-result"); // reads on in the table
  const doneWords = say("many_done", { done: formatCount(items.length - left) }) + failedWords;
  byId("panel-many").setAttribute("aria-busy", String(isRunning));
  for (const id of ["many-progress", "many-stop"]) byId(id).hidden = !isRunning;
  for (const id of ["many-run", "many-choose", "many-example"]) if (byId(id)) byId(id).hidden = isRunning;
  byId("many-text").readOnly = isRunning;
  for (const one of byId("many-table").querySelectorAll("input, select, button")) one.disabled = isRunning;
  if (!isAway) byId(isRunning ? "many-stop" : "many-run").focus({ preventScroll: true }); // what had the focus is hidden now
  byId("many-run").textContent = left ? say("analyse_rest", { left: formatCount(left) }) : say("analyse_all");
  byId("many-status").textContent = isRunning ? say("many_running", { all: formatCount(items.length) }) : doneWords;
  showProgress();
  if (!isRunning) showResults(items, getTable()?.title);
}

// All that is in the tab, without what is said in one language.
export const getMany = () => ({ text: byId("many-text").value, table: getTable(), items: items.map(({ summary, ...item }) => item) });

export function setUpMany(kept) {
  const forget = () => {
    items = [];
    byId("many-run").textContent = say("analyse_all");
  };
  showResults = setUpResults(byId("many-result"));
  setUpSource(forget, () => Boolean(stopping));
  byId("many-run").addEventListener("click", run);
  byId("many-stop").addEventListener("click", () => stopping?.abort());
  byId("many-example")?.addEventListener("click", (event) => {
    const rows = JSON.parse(event.currentTarget.dataset.rows);
    if (rows[0].length > 1) setTable(say("examples"), rows);
    else {
      setTable();
      byId("many-text").value = rows.join("\n");
    }
    run();
  });
  if (!kept) return;
  byId("many-text").value = kept.text;
  restoreTable(kept.table);
  items = kept.items.map((item) => ({ ...item, summary: item.answer && summarize(item.answer) }));
  if (items.length) showRunning(false);
}

// Many at once: inputs are sent in chunks; that can be stopped, and gone on with.
import { summarize } from "./answer.js";
import { countDown, post } from "./api.js";
import { byId, fields, formatCount, page, say } from "./dom.js";
import { getSource, readInputs, setSource, setTable, showError } from "./source.js";
import { showResults } from "./table.js";

const FIRST_CHUNK = 32;
const SECONDS_PER_CHUNK = 1.5; // short enough for the progress to move, long enough to batch well
const MOST_WAITS = 20; // for a busy server, one after the other
const [panel, table, text] = ["panel-many", "many-table", "many-text"].map(byId);
const [start, stop, status] = ["many-run", "many-stop", "many-status"].map(byId);

let items = []; // { number, texts, row, right } and, once answered, answer and summary, or error
let stopping; // an AbortController while requests are sent

const isWaiting = (item) => !item.summary && !item.error;

function showProgress(words) {
  const done = items.filter((item) => !isWaiting(item)).length;
  const [bar, count] = byId("many-progress").children;
  Object.assign(bar, { max: items.length, value: done });
  count.textContent = words ?? `${formatCount(done)} / ${formatCount(items.length)}`;
}

async function ask(chunk) {
  const { results } = await post("api/batch", { inputs: chunk.map((item) => item.texts) }, stopping.signal);
  chunk.forEach((item, index) => {
    const { error } = results[index];
    if (error?.message) item.error = error.message;
    else Object.assign(item, { answer: results[index], summary: summarize(results[index]) });
  });
}

// Sends what is waiting; each chunk is as large as the server's pace, and its bounds on a request, allow.
async function askAll() {
  let [size, most, waits] = [FIRST_CHUNK, page.batch_limit, 0];
  for (let waiting; (waiting = items.filter(isWaiting)).length; ) {
    const chunk = waiting.slice(0, Math.min(size, most));
    const started = performance.now();
    try {
      await ask(chunk);
      waits = 0;
      const seconds = (performance.now() - started) / 1000;
      size = Math.max(8, Math.round(chunk.length * Math.min(4, SECONDS_PER_CHUNK / seconds)));
    } catch (error) {
      if (error.status === 413 && chunk.length > 1) most = Math.floor(chunk.length / 2);
      else if (error.status === 413) chunk[0].error = error.message;
      else if (error.waitSeconds && waits++ < MOST_WAITS) {
        const tell = (left) => showProgress(say("many_waits", { message: error.message, left }));
        await countDown(error.waitSeconds, tell, stopping.signal);
      } else throw error;
    }
    if (stopping.signal.aborted) return;
    showProgress();
    showResults(items);
  }
}

async function run() {
  if (stopping) return;
  if (!items.some(isWaiting)) items = readInputs();
  showError(items.length ? undefined : say("many_nothing"));
  if (!items.length) return text.focus();
  stopping = new AbortController();
  showState();
  try {
    await askAll();
  } catch (error) {
    if (!stopping.signal.aborted) showError(error.message);
  }
  stopping = undefined;
  showState();
}

function showState() {
  const isRunning = Boolean(stopping);
  const all = items.length;
  const left = items.filter(isWaiting).length;
  const failed = items.filter((item) => item.error).length;
  const isAway = document.activeElement.closest("#many-result"); // reads on in the table
  panel.ariaBusy = String(isRunning); // which says what is shown, and what not
  text.readOnly = table.disabled = isRunning;
  if (!isAway) (isRunning ? stop : start).focus({ preventScroll: true }); // what had the focus is hidden now
  start.textContent = left ? say("analyse_rest", { left }) : say("analyse_all");
  status.textContent = isRunning ? say("many_running", { all }) : say("many_done", { done: all - left });
  if (!isRunning && failed) status.append(" ", say("many_failed", { failed }));
  showProgress();
  if (!isRunning) showResults(items);
}

// All that is in the tab, without what is said in one language.
export const getMany = () => ({ source: getSource(), items: items.map(({ summary, ...item }) => item) });

export function restoreMany({ source, items: kept }) {
  setSource(source);
  items = kept.map((item) => ({ ...item, summary: item.answer && summarize(item.answer) }));
  if (items.length) showState();
}

panel.addEventListener("source", () => {
  items = [];
  start.textContent = say("analyse_all");
});
start.addEventListener("click", run);
stop.addEventListener("click", () => stopping?.abort());
byId("many-example")?.addEventListener("click", () => {
  if (fields.length > 1) setTable(say("examples"), page.chips);
  else setSource({ text: page.chips.join("\n") });
  run();
});

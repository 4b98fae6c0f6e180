// Talks to the server. Whatever goes wrong becomes an Error whose message can be shown as it is.
import { fill, makeButton, say } from "./dom.js";

const TIMEOUT_MS = 60_000;
const DEFAULT_WAIT_SECONDS = 5; // where a busy server does not say how long

function describeFailure(error) {
  if (error.name === "TimeoutError") return say("timed_out");
  return navigator.onLine ? say("unreachable") : say("offline");
}

// Errors carry `status`, `field` (the input at fault) and `waitSeconds` (of a busy server).
export async function post(path, body, stopSignal = new AbortController().signal) {
  const { lang } = document.documentElement;
  let response, answer;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "Accept-Language": lang },
      body: JSON.stringify(body),
      signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), stopSignal]),
    });
    answer = await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw new Error(describeFailure(error)); // that one is a proxy's page
  }
  if (response.ok && answer) return answer;

  const { status } = response;
  const isBusy = status === 429 || status === 503;
  const waitSeconds = isBusy ? Math.ceil(Number(response.headers.get("Retry-After"))) || DEFAULT_WAIT_SECONDS : 0;
  const { message = say("strange_answer", { status }), field } = answer?.error ?? {};
  throw Object.assign(new Error(message), { status, field, waitSeconds });
}

// Calls onTick(seconds left) now and every second, until none is left or it is stopped.
export async function countDown(seconds, onTick, stopSignal) {
  for (let left = seconds; left > 0 && !stopSignal?.aborted; left--) {
    onTick(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// Does what a button asks of the server, once at a time. A server that asks for patience gets it: the button counts
// down, and then works again. It is not `disabled` meanwhile: that would take the focus away from who pressed it.
export async function press(button, work, showError) {
  if (button.ariaDisabled === "true") return;
  const words = button.textContent;
  button.ariaDisabled = "true";
  try {
    await work();
  } catch (error) {
    showError(error);
    await countDown(error.waitSeconds, (left) => (button.textContent = say("again_in", { left })));
    button.textContent = words;
  }
  button.ariaDisabled = "false";
}

// A button that asks the server; what goes wrong is said in the note beside it.
export function makeAskingButton(words, className, note, work) {
  const onclick = ({ currentTarget }) => press(currentTarget, work, (error) => fill(note, error.message));
  return makeButton(words, className, onclick);
}

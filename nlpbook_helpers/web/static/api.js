// Talks to the server. Whatever goes wrong becomes an Error whose message can be shown as it is.
import { say } from "./dom.js";

const TIMEOUT_MS = 60_000;
const DEFAULT_WAIT_SECONDS = 5; // where a busy server does not say how long

function describeFailure(error) {
  if (error.name === "TimeoutError") return say("timed_out");
  if (!navigator.onLine) return say("offline");
  return say("unreachable");
}

// Errors carry `status`, `field` (the input at fault) and `waitSeconds` (of a busy server).
export async function post(path, body, stopSignal = new AbortController().signal) {
  let response, answer;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "Accept-Language": document.documentElement.lang },
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
  const { message, field } = answer?.error ?? {};
  const fallback = say("strange_answer", { status });
  throw Object.assign(new Error(message ?? fallback), { status, field, waitSeconds });
}

// Calls onTick(seconds left) now and every second, until none is left or it is stopped.
export async function countDown(seconds, onTick, stopSignal) {
  for (let left = seconds; left > 0 && !stopSignal?.aborted; left--) {
    onTick(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

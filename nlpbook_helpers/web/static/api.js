// Talks to the server. Whatever goes wrong becomes an Error whose message can be shown as it is.

const TIMEOUT_MS = 60_000;
const DEFAULT_WAIT_SECONDS = 5; // where a busy server does not say how long

function describeFailure(error) {
  if (error.name === "TimeoutError") return "1분 동안 답이 없습니다. 서버가 바쁜 것 같으니 잠시 뒤에 다시 보내 주세요.";
  if (!navigator.onLine) return "인터넷 연결이 끊겼습니다. 연결을 확인하고 다시 보내 주세요.";
  return "서버에 닿지 못했습니다. 노트북의 서버가 꺼지지 않았는지 확인하고 다시 보내 주세요.";
}

// Errors carry `status`, `field` (the input at fault) and `waitSeconds` (of a busy server).
export async function post(path, body, stopSignal = new AbortController().signal) {
  let response, answer;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
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
  const fallback = `서버가 알 수 없는 답을 보냈습니다 (${status}). 잠시 뒤에 다시 보내 주세요.`;
  throw Object.assign(new Error(message ?? fallback), { status, field, waitSeconds });
}

// Calls onTick(seconds left) now and every second, until none is left or it is stopped.
export async function countDown(seconds, onTick, stopSignal) {
  for (let left = seconds; left > 0 && !stopSignal?.aborted; left--) {
    onTick(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// Talks to the server. Whatever goes wrong becomes an Error whose message can be shown as it is.

const TIMEOUT_MS = 60_000;
const DEFAULT_WAIT_SECONDS = 5; // where a busy server does not say how long
const WORDS_BY_STATUS = {
  401: "접속 열쇠가 없거나 맞지 않습니다. 받은 링크를 끝까지 복사해 다시 열어 주세요.",
  413: "보낸 글이 너무 깁니다. 줄여서 다시 보내 주세요.",
  429: "요청이 너무 잦습니다.",
  503: "지금 요청이 몰려 있습니다.",
};

// Errors carry `status`, `field` (the input at fault) and `waitSeconds` (429 and 503), or `wasStopped`.
function fail(message, details = {}) {
  return Object.assign(new Error(message), details);
}

function describeFailure(error) {
  if (error.name === "TimeoutError") return "1분 동안 답이 없습니다. 서버가 바쁜 것 같으니 잠시 뒤에 다시 보내 주세요.";
  if (!navigator.onLine) return "인터넷 연결이 끊겼습니다. 연결을 확인하고 다시 보내 주세요.";
  return "서버에 닿지 못했습니다. 노트북의 서버가 꺼지지 않았는지 확인하고 다시 보내 주세요.";
}

export async function post(path, body, stopSignal) {
  const signals = [AbortSignal.timeout(TIMEOUT_MS), ...(stopSignal ? [stopSignal] : [])];
  let response, answer;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.any(signals),
    });
    answer = await response.text();
  } catch (error) {
    throw fail(describeFailure(error), { wasStopped: stopSignal?.aborted ?? false });
  }
  answer = parseJson(answer);
  if (response.ok && answer !== null) return answer;

  const { status } = response;
  const fallback = `서버가 알 수 없는 답을 보냈습니다 (${status}). 잠시 뒤에 다시 보내 주세요.`;
  const isBusy = status === 429 || status === 503;
  const waitSeconds = isBusy ? Math.ceil(Number(response.headers.get("Retry-After"))) || DEFAULT_WAIT_SECONDS : 0;
  // Of a busy server the page knows more than its sentence says: the seconds, which it counts down.
  const message = (isBusy ? undefined : answer?.error?.message) ?? WORDS_BY_STATUS[status] ?? fallback;
  throw fail(message, { status, field: answer?.error?.field, waitSeconds });
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's page, for example
  }
}

// Calls onTick(seconds left) now and every second, and resolves at zero or when stopped.
export function countDown(seconds, onTick, stopSignal) {
  return new Promise((resolve) => {
    const tick = () => {
      if (seconds <= 0 || stopSignal?.aborted) {
        clearInterval(timer);
        resolve();
      } else onTick(seconds--);
    };
    const timer = setInterval(tick, 1000);
    stopSignal?.addEventListener("abort", tick, { once: true });
    tick();
  });
}

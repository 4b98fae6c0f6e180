// "맞아요 / 틀렸어요": what would have been the right label, kept on the server if its owner wants it.
import { getShortName } from "./answer.js";
import { makeAskingButton, post } from "./api.js";
import { fill, make, makeButton, page, say } from "./dom.js";

// The question below an answer, unless none is wanted or the answer names no labels.
export function makeFeedback(texts, { labels, prediction }) {
  if (!page.takes_feedback || !labels.length) return undefined;
  const place = make("div", { className: "send feedback" });
  const note = make("span", { className: "note", role: "status" }, say("feedback_note"));
  const ask = (question, ...buttons) => fill(place, make("span", { className: "label" }, question), buttons, note);
  const makeChoice = (label, words) => makeAskingButton(words, "secondary", note, async () => {
    const { count } = await post("api/feedback", { input: texts, label });
    fill(place, make("p", { className: "note", tabIndex: -1 }, say("thanks", { count })));
    place.firstChild.focus(); // the buttons are gone
  });
  const others = labels.filter((label) => label !== prediction);
  const askWhich = () => {
    ask(say("right_label"), others.map((label) => makeChoice(label, getShortName(label))));
    place.querySelector("button").focus();
  };
  const isOneLeft = others.length === 1;
  const wrong = isOneLeft ? makeChoice(others[0], say("wrong")) : makeButton(say("wrong"), "secondary", askWhich);
  return ask(say("feedback"), makeChoice(prediction, say("right")), wrong);
}

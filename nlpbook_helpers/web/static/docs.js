// The guide to the API: the calls of each address, as this page's own address and key ask for.
import { post } from "./api.js";
import { showCalls } from "./calls.js";
import { say } from "./dom.js";

for (const section of document.querySelectorAll("[data-body]")) {
  const body = JSON.parse(section.dataset.body.replaceAll("…", say("sample_text")));
  // Only an answer tells which labels there are.
  if (body.label) body.label = await post("api", body.input).then(({ prediction }) => prediction, String);
  showCalls(section.id, section.dataset.path, body);
}

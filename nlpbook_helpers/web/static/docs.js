// The guide to the API: the calls of each address, as this page's own address and key ask for.
import { setUpCalls } from "./calls.js";
import { say } from "./dom.js";

const write = setUpCalls();
for (const section of document.querySelectorAll("[data-body]")) {
  write(section.dataset.path, JSON.parse(section.dataset.body.replaceAll("…", say("sample_text"))), section.id);
}

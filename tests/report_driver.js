// Drives the page that it was put into, and leaves what came of it in #outcome. Part of tests/report.rs.
(async () => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const choice = () => document.body.dataset.choice;
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const focus = (name) => one(`.plot[data-plot="${name}"]`).focus();
  const course = () => one('.plot[data-plot="river"] path.stream').getAttribute("d");
  const outcome = { choices: { start: choice() }, river: { mean: course() }, sections: {} };
  focus("river");
  press("ArrowRight");
  outcome.choices.right = choice();
  press("ArrowUp");
  outcome.choices.up = choice();
  focus("heads");
  press("ArrowUp");
  press("ArrowRight");
  outcome.choices.head = choice();
  press("End");
  outcome.choices.end = choice();
  document.activeElement.blur();
  press("ArrowLeft");
  outcome.choices.elsewhere = choice();
  one("#tokens button").click();
  outcome.choices.token = choice();
  const slider = one("#choose-block");
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  outcome.choices.slider = choice();
  one("input[name=course][value=token]").click();
  outcome.river.token = course();
  for (const way of all("input[name=shade]")) way.click();
  for (const svg of all("svg[data-grid]")) {
    const box = svg.getBoundingClientRect();
    for (const part of [0.3, 0.6, 0.95]) {
      const at = { clientX: box.left + part * box.width, clientY: box.top + part * box.height, bubbles: true };
      svg.dispatchEvent(new PointerEvent("pointermove", at));
      await wait(30);
    }
    svg.dispatchEvent(new PointerEvent("pointerleave"));
  }
  await wait(500);
  outcome.weight = one("#head-readout dd")?.textContent;
  for (const section of all("main > section")) {
    const { width, height } = section.getBoundingClientRect();
    outcome.sections[section.id] = [width, height];
  }
  const parsed = (text) => new DOMParser().parseFromString(text, "image/svg+xml");
  const figures = JSON.parse(one("#figures").textContent).map(parsed);
  outcome.figures = figures.filter((svg) => svg.querySelector("parsererror") || svg.documentElement.tagName !== "svg").length
    ? figures.map((svg) => svg.documentElement.textContent.slice(0, 200)) : [];
  const named = (element) => element.getAttribute("aria-label") || element.labels?.length || element.textContent.trim();
  outcome.unnamed = all("button, input, [tabindex]").filter((element) => !named(element)).length;
  outcome.images = all("img").length;
  outcome.hit = window.hit ?? null;
  outcome.faults = window.faults;
  const pre = document.createElement("pre");
  pre.id = "outcome";
  pre.textContent = JSON.stringify(outcome);
  document.body.append(pre);
})();

"use strict";
// One choice (token, block, head) for the whole page. The figures are drawn already: what is here moves their marks, shades
// their cells, changes their texts and reads numbers out. Texts of tokens only ever become text, never markup.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const data = JSON.parse(one("#numbers").textContent);
  const courses = JSON.parse(one("#courses").textContent);
  const most = { token: data.ids.length - 1, block: data.blocks.length - 1, head: data.model.heads - 1 };
  const choice = { token: most.token, block: 0, head: 0 };
  const DARKEST = 0.62; // of a lens cell, as drawn
  const minus = (text) => text.replace(/-/g, "−");
  const number = (x) => {
    const size = Math.abs(x);
    if (size === 0) return "0";
    if (size >= 99950 || size < 0.00095) return minus(x.toExponential(1).replace("e+", "e"));
    return minus(x.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.0995 ? 2 : 4));
  };
  const signed = (x) => minus((x < 0 ? "" : "+") + x.toFixed(2));
  const percent = (p) => (p >= 0.0995 ? (100 * p).toFixed(0) : (100 * p).toFixed(p >= 0.00995 ? 1 : 2)) + " %";
  const token = (i) => `${i} “${data.tokens[i]}”`;
  const checked = (name) => one(`input[name=${name}]:checked`)?.value;
  const svgOf = (name) => one(`.plot[data-plot="${name}"] > svg`);

  // ---- what is shown of the choice

  function list(title, rows) {
    const dl = document.createElement("dl");
    const dt = document.createElement("dt");
    dt.textContent = title;
    dl.append(dt);
    for (const row of rows) {
      for (const text of row) {
        const dd = document.createElement("dd");
        dd.textContent = text;
        dl.append(dd);
      }
    }
    return dl;
  }

  function river() {
    const values = courses[checked("course") === "token" ? choice.token + 1 : 0];
    all(".v", svgOf("river")).forEach((element, i) => {
      if (element.tagName === "path") element.setAttribute("d", values[i]);
      else element.textContent = values[i];
    });
  }

  function cursors() {
    for (const svg of all("svg[data-blocks]")) {
      const [first, step] = svg.dataset.blocks.split(" ").map(Number);
      const cursor = one(".cursor", svg);
      cursor.setAttribute("x1", first + step * choice.block);
      cursor.setAttribute("x2", first + step * choice.block);
    }
  }

  /** Moves the outline of a figure's grid. */
  function outline(name, column, row, whole) {
    const svg = svgOf(name);
    if (!svg) return;
    const [x, y, dx, dy, columns, rows] = svg.dataset.grid.split(" ").map(Number);
    const rect = one(".chosen", svg);
    rect.style.display = row < rows && column < columns ? "" : "none";
    rect.setAttribute("y", y + row * dy - 0.5);
    if (!whole) rect.setAttribute("x", x + column * dx - 0.5);
  }

  const reading = (column, i) => data.lens.rows[column].positions[i];
  const says = "top" in reading(0, 0); // else the model has no head, and readings are cosines
  const tops = (cell) => cell.top.map((top) => [percent(top.p), top.token]);
  const columnName = (column) => (column <= most.block ? `before block ${column}` : "out");

  function lens() {
    if (!says) return;
    const lists = [choice.block, choice.block + 1].map((column) => {
      const cell = reading(column, choice.token);
      const title = `${columnName(column)}: entropy ${number(cell.entropy)}, KL ${number(cell.kl)} nats`;
      return list(title, tops(cell));
    });
    one("#lens-readout").replaceChildren(list("after token", [[token(choice.token), ""]]), ...lists);
  }

  function shade() {
    if (!says) return;
    const by = checked("shade");
    const cells = data.lens.rows.map((row) => row.positions);
    const largest = Math.max(1e-9, ...cells.flat().map((cell) => cell.kl));
    const value = {
      p: (cell) => cell.top[0].p,
      entropy: (cell) => cell.entropy / Math.log(data.model.vocabulary),
      kl: (cell) => cell.kl / largest,
    }[by];
    const text = {
      p: "0 to 1: probability of the token",
      entropy: `0 to ${number(Math.log(data.model.vocabulary))} nats: entropy, at most that of all tokens alike`,
      kl: `0 to ${number(largest)} nats: KL divergence of the model's answer from what is said here`,
    }[by];
    one("#shade-text").textContent = text;
    // drawn token by token
    const rects = all(".cell", svgOf("lens"));
    const columns = cells.length;
    rects.forEach((rect, i) => {
      const shade = value(cells[i % columns][Math.floor(i / columns)]);
      rect.setAttribute("fill-opacity", (DARKEST * Math.min(1, Math.max(0, shade))).toFixed(3));
    });
  }

  // ---- attention: the weights are read from the pictures, whose opacity is the root of the weight

  const pictures = new Map();
  async function weights(id, image) {
    if (!pictures.has(id)) {
      const read = async () => {
        const picture = new Image();
        picture.src = image.getAttribute("href");
        await picture.decode();
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [picture.width, picture.height];
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        return context.getImageData(0, 0, picture.width, picture.height);
      };
      pictures.set(id, read().catch(() => null));
    }
    return pictures.get(id);
  }
  const weight = (image, row, column) => (image.data[4 * (row * image.width + column) + 3] / 255) ** 2;
  const ofBlock = (block) => weights(`attention-${block}`, document.getElementById(`attention-${block}`));

  async function head() {
    const svg = svgOf("head");
    const shown = Number(svg.dataset.grid.split(" ")[5]);
    const { token: query, block, head: chosen } = choice;
    one("use", svg).setAttribute("href", `#attention-${block}`);
    one(".weights", svg).setAttribute("viewBox", `0 ${chosen * shown} ${shown} ${shown}`);
    svg.setAttribute("aria-label", `Attention of block ${block}, head ${chosen}: queries down, keys across`);
    one("#head-title").textContent = `Block ${block}, head ${chosen}: queries down, keys across`;
    const sink = data.blocks[block].sinks[chosen];
    const about = list("of all tokens", [[percent(sink), "to the first" + (sink > 0.3 ? ": a sink" : "")]]);
    const place = one("#head-readout");
    if (query >= shown) return place.replaceChildren(about);
    const image = await ofBlock(block);
    if (!image || choice.block !== block || choice.head !== chosen || choice.token !== query) return;
    const row = Array.from({ length: shown }, (_, key) => [weight(image, chosen * shown + query, key), key]);
    row.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const best = row.slice(0, 5).filter(([w]) => w > 0);
    place.replaceChildren(list(`token ${token(query)} looks at`, best.map(([w, key]) => [percent(w), token(key)])), about);
  }

  // ---- one token in one block

  const strips = new Map();
  function strip(block, name) {
    const key = `${block} ${name}`;
    if (!strips.has(key)) {
      const bytes = atob(data.blocks[block].states[name].strip);
      strips.set(key, Int8Array.from(bytes, (c) => c.charCodeAt(0)));
    }
    return strips.get(key);
  }

  function states() {
    const svg = svgOf("states");
    const { token: i, block } = choice;
    one("#states-text").textContent = `Token ${token(i)} in block ${block}: the stream before it, what is added to it, and what becomes of it.`;
    svg.setAttribute("aria-label", `States of token ${i} in block ${block}`);
    const names = STATES.filter((name) => name in data.blocks[block].states);
    const bins = all(".bin", svg);
    const numbers = all(".number", svg);
    names.forEach((name, row) => {
      const values = strip(block, name);
      const width = values.length / data.ids.length;
      for (let bin = 0; bin < width; bin++) {
        const value = values[i * width + bin];
        const rect = bins[row * width + bin];
        rect.setAttribute("class", value < 0 ? "bin below" : "bin above");
        rect.setAttribute("fill-opacity", (Math.abs(value) / 127).toFixed(3));
      }
      const state = data.blocks[block].states[name];
      const texts = [state.norm, state.mean, state.min, state.max].map((list) => number(list[i]));
      texts.push(state.cosine.length ? signed(state.cosine[i]) : "·");
      texts.forEach((text, column) => (numbers[row * 5 + column].textContent = text));
    });
  }
  const STATES = ["x", "t1", "t2", "t3", "t4", "t5", "h"];

  // ---- the choice

  function show() {
    const texts = { token: token(choice.token), block: choice.block, head: choice.head };
    for (const [name, text] of Object.entries(texts)) {
      const input = one(`#choose-${name}`);
      input.value = choice[name];
      input.setAttribute("aria-valuetext", text);
      one("output", input.parentElement).textContent = text;
    }
    all("#tokens button").forEach((button, i) => button.setAttribute("aria-pressed", i === choice.token));
    one("#status").textContent = `token ${texts.token}, block ${choice.block}, head ${choice.head}`;
    document.body.dataset.choice = [choice.token, choice.block, choice.head].join(" ");
    if (checked("course") === "token") river();
    cursors();
    outline("lens", choice.block, choice.token);
    outline("nearness", choice.block, choice.token);
    outline("heads", choice.head, choice.block);
    outline("head", 0, choice.token, true);
    outline("rollout", 0, choice.token, true);
    lens();
    head();
    states();
  }

  function choose(change) {
    const before = { ...choice };
    for (const name in change) choice[name] = Math.min(most[name], Math.max(0, change[name]));
    if (Object.keys(choice).some((name) => choice[name] !== before[name])) show();
  }

  for (const name of ["token", "block", "head"]) {
    one(`#choose-${name}`).addEventListener("input", (event) => choose({ [name]: Number(event.target.value) }));
  }
  all("#tokens button").forEach((button, i) => button.addEventListener("click", () => choose({ token: i })));
  all("input[name=course]").forEach((input) => input.addEventListener("change", river));
  all("input[name=shade]").forEach((input) => input.addEventListener("change", shade));

  // arrows walk through a picture that has the focus; elsewhere they scroll, as ever
  document.addEventListener("keydown", (event) => {
    const plot = event.target.closest?.(".plot");
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const [across, down] = plot.dataset.arrows.split(" ");
    const step = {
      ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowUp: [down, -1], ArrowDown: [down, 1],
      Home: [across, -Infinity], End: [across, Infinity],
    }[event.key];
    if (!step) return;
    event.preventDefault();
    choose({ [step[0]]: choice[step[0]] + step[1] });
  });

  // ---- pictures under the pointer

  function cellAt(svg, event) {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const [x, y, dx, dy, columns, rows] = svg.dataset.grid.split(" ").map(Number);
    const [column, row] = [Math.floor((px - x) / dx), Math.floor((py - y) / dy)];
    return column >= 0 && row >= 0 && column < columns && row < rows ? [column, row] : null;
  }

  const pick = {
    lens: ([column, row]) => ({ block: column, token: row }),
    nearness: ([column, row]) => ({ block: column, token: row }),
    heads: ([column, row]) => ({ head: column, block: row }),
    head: ([, row]) => ({ token: row }),
    rollout: ([, row]) => ({ token: row }),
    cka: ([column]) => ({ block: column }),
  };
  const told = {
    lens: ([column, row]) => {
      const cell = reading(column, row);
      const rows = tops(cell).map((top) => `${top[0].padStart(6)}  ${top[1]}`).join("\n");
      return `after ${token(row)}, ${columnName(column)}\n${rows}\nentropy ${number(cell.entropy)} nats\nKL ${number(cell.kl)} nats`;
    },
    nearness: ([column, row]) => `${token(row)}, ${columnName(column)}\ncosine ${signed(reading(column, row).cosine)}`,
    heads: ([column, row]) => `block ${row}, head ${column}\n${percent(data.blocks[row].sinks[column])} to the first token`,
    head: async ([column, row]) => {
      const { block, head: chosen } = choice;
      const image = await ofBlock(block);
      return image && `${token(row)} looks at\n${token(column)}: ${percent(weight(image, chosen * image.width + row, column))}`;
    },
    rollout: ([column, row]) => `${token(row)} has of\n${token(column)}: ${percent(data.rollout[row][column])}`,
    cka: ([column, row]) => `${columnName(row)}\n${columnName(column)}\nCKA ${data.cka[row][column].toFixed(4)}`,
  };
  const tip = one("#tip");
  let moves = 0;
  for (const svg of all("svg[data-grid]")) {
    const name = svg.parentElement.dataset.plot;
    svg.addEventListener("click", (event) => {
      const cell = cellAt(svg, event);
      if (cell) choose(pick[name](cell));
    });
    svg.addEventListener("pointermove", async (event) => {
      const move = ++moves;
      const cell = cellAt(svg, event);
      const text = cell && (await told[name](cell));
      if (move !== moves) return;
      tip.hidden = !text;
      tip.textContent = text || "";
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
      tip.style.top = (event.clientY + height + 24 > innerHeight ? event.clientY - height - 10 : event.clientY + 16) + "px";
    });
    svg.addEventListener("pointerleave", () => {
      moves++;
      tip.hidden = true;
    });
  }
  one(".plot[data-plot=river] > svg").addEventListener("click", (event) => {
    const svg = event.currentTarget;
    const box = svg.getBoundingClientRect();
    const [first, step] = svg.dataset.blocks.split(" ").map(Number);
    const x = ((event.clientX - box.left) * svg.viewBox.baseVal.width) / box.width;
    choose({ block: Math.floor((x - first) / step + 0.5) });
  });

  show();
})();

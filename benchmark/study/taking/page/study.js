// The study's page: window.STUDY (data.js) in, one person's answers out. No framework, and nobody else is asked anything.
"use strict";
(() => {
  const study = window.STUDY, server = window.STUDY_SERVER || {}, query = new URLSearchParams(location.search);
  const main = document.getElementById("screen"), bar = document.querySelector(".bar");
  if (!study) {
    main.textContent = "The study did not arrive whole. Please check your connection and load the page again.";
    return;
  }
  const byKind = (kind) => study.trials.filter((t) => t.kind === kind);
  const SURE = ["a guess", "fairly sure", "sure"];

  // --- the same arithmetic as benchmark/study/trials.py -----------------------------------------------------------

  const scramble = (text) => {
    let h = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  };
  const inOrder = (trials, who) => {
    const key = new Map(trials.map((t) => [t.id, scramble(`${study.seed}/${who}/${t.id}`)]));
    return [...trials].sort((a, b) => key.get(a.id) - key.get(b.id) || (a.id < b.id ? -1 : 1));
  };

  // --- what is remembered, on this machine alone ------------------------------------------------------------------

  const kept = {
    read(key) { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } },
    write(key, value) { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* private browsing */ } },
  };
  const home = `featvis/${study.hash.slice(0, 16)}`;
  const given = (query.get("PROLIFIC_PID") || query.get("participant") || "").replace(/[\p{C}\p{Z}]+/gu, " ").trim().slice(0, 128);
  const random = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const participant = given || kept.read(`${home}/me`) || random();
  if (!given) kept.write(`${home}/me`, participant);
  const fresh = { screen: "consent", condition: null, instructions: 0, total: 0, rounds: 0, at: 0, wrong: false, trial: 0, answers: [], sent: false };
  const state = { ...fresh, ...(kept.read(`${home}/${participant}`) || {}) };
  const save = () => kept.write(`${home}/${participant}`, state);

  const mirrored = (scramble(`${study.seed}/${participant}/mirror`) & 1) === 1;
  const flip = (side) => (side === "left" ? "right" : "left");
  const seen = (t) => (mirrored ? { ...t, left: t.right, right: t.left, answer: t.answer && flip(t.answer) } : t);
  const trials = inOrder(byKind("trial"), participant).map(seen);
  const practice = byKind("practice").map(seen);
  const example = byKind("example").map(seen)[0];
  const shows = () => Boolean(study.conditions[state.condition]);

  // --- time: while the page is open, whatever happens to it -------------------------------------------------------

  let since = performance.now(), running = false, shownAt = null;
  const tick = () => {
    const now = performance.now(), passed = now - since;
    since = now;
    if (!running) return;
    state.total += passed;
    if (state.screen === "instructions") state.instructions += passed;
    if (shownAt !== null) state.trial += now - Math.max(shownAt, now - passed);
  };
  addEventListener("pagehide", () => { tick(); save(); });
  document.addEventListener("visibilitychange", () => { tick(); save(); });
  setInterval(() => { tick(); save(); }, 2000);

  // --- making things ----------------------------------------------------------------------------------------------

  const make = (tag, values = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(values)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
    return node;
  };
  const button = (text, act, quiet) => make("button", { class: quiet ? "go quiet" : "go", type: "button", onclick: act }, text);
  const say = (text) => { document.getElementById("said").textContent = text; };
  const show = (node, title) => {
    main.replaceChildren(node);
    document.title = `${title} · ${study.title}`;
    scrollTo(0, 0);
    (main.querySelector("h1") || main).focus({ preventScroll: true });
  };
  const text = (title, ...children) => make("section", { class: "text" }, make("h1", { tabindex: -1 }, title), ...children);
  const progress = (label, done, all) => {
    bar.hidden = label === null;
    document.getElementById("where").textContent = label || "";
    Object.assign(document.getElementById("progress"), { max: all || 1, value: done || 0 });
  };

  // --- pictures ---------------------------------------------------------------------------------------------------

  const pictures = new Map();
  const load = (name) => {
    if (!pictures.has(name)) {
      const image = new Image();
      image.src = `pictures/${name}`;
      const ready = image.decode().catch((error) => { pictures.delete(name); throw error; });
      ready.catch(() => {}); // whoever waits for it hears of it
      pictures.set(name, ready);
    }
    return pictures.get(name);
  };
  const files = (t) => [t.image, t.left, t.right, ...(t.references[state.condition] || [])];
  const ahead = (list) => list.forEach((t) => t && files(t).forEach(load));

  // --- screens ----------------------------------------------------------------------------------------------------

  const go = (screen) => { tick(); Object.assign(state, { screen, trial: 0 }); shownAt = null; save(); draw(); };

  const screens = {
    consent() {
      progress(null);
      running = false;
      const trouble = make("p", { class: "note bad", role: "alert", hidden: true });
      const agree = async (event) => {
        const pressed = event.currentTarget;
        pressed.disabled = true;
        const problem = await assign();
        pressed.disabled = false;
        Object.assign(trouble, { hidden: !problem, textContent: problem || "" });
        if (problem) return;
        since = performance.now();
        running = true;
        go("instructions");
      };
      show(text(study.title,
        study.consent.map((line) => make("p", {}, line)),
        make("p", {}, `It takes about ${study.minutes} minutes.`, study.contact ? ` Questions: ${study.contact}` : ""),
        trouble, button("I agree and want to take part", agree)), "Welcome");
    },

    instructions() {
      progress(null);
      ahead([example, ...practice]);
      const refs = shows();
      const steps = [
        "Inside a computer vision system are many small units. Each responds to something in a picture, and you are to find out to what.",
        refs ? "The group of pictures shows what one unit responds to most." : "You will not be told what the unit responds to: go by the picture itself.",
        "Then you see one photograph twice. A square hides a part of it, each time another part.",
        "Choose the picture to which the unit responds more: where what it likes can still be seen.",
        "Say how sure you are. The next pictures follow at once.",
      ];
      show(text("How it works", make("ol", {}, steps.map((s) => make("li", {}, s))),
        make("p", { class: "soft keys" }, make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " choose a picture, ", make("kbd", {}, "1"), " ", make("kbd", {}, "2"), " ", make("kbd", {}, "3"), " say how sure you are."),
        example ? [make("h2", {}, "An example"), board(example, { answer: example.answer }),
          make("p", { class: "note" }, `Here the ${example.answer} picture is right: the unit responds more to it.`)] : null,
        button(practice.length ? "Start with practice" : "Start", () => go(practice.length ? "practice" : "trials"))), "How it works");
    },

    practice() {
      progress(`Practice ${state.at + 1} of ${practice.length}`, state.at, practice.length);
      const t = practice[state.at];
      if (state.rounds === 0) state.rounds = 1;
      ask(t, (choice, sure, done) => {
        const good = choice === t.answer;
        state.wrong = state.wrong || !good;
        const line = good ? "Right." : `Not this one: the unit responds more to the ${t.answer} picture.`;
        say(line);
        done(t.answer, line, good, () => {
          state.at += 1;
          if (state.at < practice.length) return go("practice");
          const again = state.wrong;
          Object.assign(state, { at: 0, wrong: false });
          if (!again) return go("ready");
          state.rounds += 1;
          go(state.rounds > study.rounds ? "stopped" : "again");
        });
      });
    },

    again() {
      progress(null);
      show(text("Once more", make("p", {}, "Not all of these were right. Please go through the practice again: what the unit responds to can still be seen in the right picture."),
        button("Practise again", () => go("practice"))), "Practice");
    },

    ready() {
      progress(null);
      ahead(trials.slice(0, 2));
      show(text("Now it counts", make("p", {}, `All were right. There are ${trials.length} more, and from here on you are not told which were right.`), button("Start", () => go("trials"))), "Ready");
    },

    trials() {
      const done = state.answers.length;
      if (done >= trials.length) return go("done");
      progress(`${done + 1} of ${trials.length}`, done, trials.length);
      ahead(trials.slice(done + 1, done + 4));
      const t = trials[done];
      ask(t, (choice, sure) => {
        tick();
        state.answers.push({ trial: t.id, choice, confidence: sure, ms: Math.max(1, Math.round(state.trial)) });
        go("trials");
      });
    },

    stopped() { finish("Thank you", "The practice shows that these pictures do not tell enough today, so the study ends here for you. You are paid all the same."); },
    done() { finish("Thank you", "That was the last one."); },
  };

  // Drawn with the rest of the screen and not a frame later, which would be counted.
  const picture = (name, alt) => make("img", { src: `pictures/${name}`, alt, decoding: "sync", draggable: "false" });

  // The pictures of a trial. With an answer it is an example: nothing can be chosen.
  const board = (t, options = {}) => {
    const refs = t.references[state.condition] || [];
    const fixed = options.answer !== undefined;
    const side = (name) => make(fixed ? "div" : "button", {
      class: `query${fixed && name === options.answer ? " right" : ""}`, type: fixed ? null : "button", role: fixed ? null : "radio", "aria-checked": fixed ? null : "false",
      "data-side": name, onclick: fixed ? () => {} : () => options.choose(name),
    }, picture(t[name], `The photograph, a part of it hidden: ${name} picture`),
    fixed ? null : make("span", { class: "keys", "aria-hidden": "true" }, make("kbd", {}, name === "left" ? "←" : "→")));
    const across = refs.length <= 2 ? refs.length : refs.length === 4 ? 2 : 3;
    return make("div", { class: `trial${refs.length ? " with" : ""}` },
      refs.length ? make("section", { class: `refs${refs.length > 3 ? " many" : ""}` }, make("h2", {}, "The unit responds most to pictures like these"),
        make("ul", { "data-across": across }, refs.map((name, i) => make("li", {}, picture(name, `What the unit responds to, ${i + 1} of ${refs.length}`))))) : null,
      make("div", {}, make("figure", { class: "whole" }, picture(t.image, "The whole photograph"), make("figcaption", {}, "the whole photograph"))),
      make("div", {}, make("h2", { id: "ask" }, "To which of the two does the unit respond more?"),
        make("div", { class: "pair", role: fixed ? null : "radiogroup", "aria-labelledby": fixed ? null : "ask" }, side("left"), side("right")),
        fixed ? null : make("div", { class: "sure" })));
  };

  let keys = null;
  const ask = (t, answered) => {
    let choice = null, over = false, node = null, under = null;
    const buttons = SURE.map((label, i) => make("button", { type: "button", disabled: true, "data-sure": i + 1, onclick: () => sure(i + 1) }, make("kbd", { class: "keys" }, `${i + 1}`), ` ${label}`));
    const choose = (name) => {
      if (over || node === null) return;
      choice = name;
      node.querySelectorAll(".query").forEach((q) => q.setAttribute("aria-checked", String(q.dataset.side === name)));
      buttons.forEach((b) => { b.disabled = false; });
      say(`${name} picture chosen. How sure are you?`);
    };
    const sure = (level) => {
      if (over || choice === null || shownAt === null) return;
      over = true;
      answered(choice, level, (answer, line, good, next) => {
        node.querySelectorAll(".query").forEach((q) => q.classList.add(...(q.dataset.side === answer ? ["right"] : q.dataset.side === choice ? ["wrong"] : [])));
        const on = button("Continue", () => { keys = null; next(); });
        under.replaceChildren(make("div", { class: "feedback" }, make("b", { class: good ? "good" : "bad" }, line), on));
        on.focus({ preventScroll: true });
      });
    };
    keys = { ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), 1: () => sure(1), 2: () => sure(2), 3: () => sure(3) };
    const waiting = setTimeout(() => show(make("p", { class: "loading" }, "Loading the pictures …"), "Loading"), 250);
    shownAt = null;
    const start = () => Promise.all(files(t).map(load)).then(() => {
      clearTimeout(waiting);
      // Not before the pictures are there: an <img> that has failed once stays broken.
      node = board(t, { choose });
      under = node.querySelector(".sure");
      under.append(make("p", { id: "how" }, "How sure are you?"), make("div", { role: "group", "aria-labelledby": "how" }, buttons));
      show(node, study.title);
      requestAnimationFrame(() => { tick(); shownAt = performance.now(); });
    }, () => {
      clearTimeout(waiting);
      show(text("A picture did not arrive", make("p", {}, "Please check your connection; nothing is lost."), button("Try again", start)), "Waiting");
    });
    start();
  };
  addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !keys || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  // --- where the answers go ---------------------------------------------------------------------------------------

  const participation = () => ({
    study: study.study, hash: study.hash, participant, condition: state.condition, instructions_ms: Math.round(state.instructions),
    total_ms: Math.round(state.total), practice_rounds: state.rounds, answers: state.answers,
  });

  const assign = async () => {
    const known = Object.keys(study.conditions), asked = query.get("condition");
    if (known.includes(state.condition)) return null;
    if (server.start) {
      try {
        const reply = await fetch(server.start, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ participant }) });
        const said = await reply.json();
        if (!reply.ok) return reply.status < 500 && said.error ? `The server says: ${said.error}.` : "The server cannot take you in now. Please try again in a moment.";
        if (!known.includes(said.condition)) return "The server has another study. Please load the page again.";
        state.condition = said.condition;
      } catch {
        return "The server does not answer. Please check your connection and try again.";
      }
    } else state.condition = known.includes(asked) ? asked : known[scramble(`${study.seed}/${participant}/condition`) % known.length];
    save();
    return null;
  };

  const download = () => {
    const blob = new Blob([JSON.stringify(participation(), null, 1)], { type: "application/json" });
    const link = make("a", { href: URL.createObjectURL(blob), download: `answers-${participant.replace(/[^\w-]/g, "_")}.json` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  let sending = false;
  const send = async (tell) => {
    if (sending || state.sent || !server.answers) return;
    sending = true;
    for (let wait = 1; !state.sent; wait = Math.min(30, wait * 2)) {
      let problem = "The answers could not be sent yet; we go on trying.";
      try {
        const reply = await fetch(server.answers, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(participation()) });
        if (reply.ok) { state.sent = true; save(); tell(null); break; }
        const said = await reply.json().catch(() => ({}));
        if (reply.status < 500 && ![408, 425, 429].includes(reply.status)) { tell(`The answers were not taken: ${said.error || reply.status}.`); break; }
      } catch { /* no connection */ }
      tell(problem);
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
    sending = false;
  };

  const finish = (title, line) => {
    progress(null);
    tick();
    running = false;
    save();
    const status = make("p", { id: "sent", role: "status" });
    const keep = make("div", { id: "keep" });
    const code = make("div", {}, make("p", {}, "Your completion code:"), make("p", {}, make("span", { class: "code", id: "code" }, study.code)),
      study.back ? make("a", { class: "go", href: `${study.back}${study.back.includes("?") ? "&" : "?"}cc=${encodeURIComponent(study.code)}` }, "Finish") : null);
    show(text(title, make("p", {}, line), status, keep, code), title);
    const tell = (problem) => {
      status.className = problem ? "note bad" : "note";
      status.textContent = problem || "Your answers have arrived. You may close this page.";
      keep.replaceChildren(...(problem ? [button("Download my answers", download, true)] : []));
    };
    if (state.sent) return tell(null);
    if (server.answers) { status.textContent = "Sending your answers …"; send(tell); return; }
    status.textContent = "Please download your answers and send the file to whoever invited you.";
    keep.append(button("Download my answers", download));
  };

  const draw = () => { keys = null; (screens[state.screen] || screens.consent)(); };
  if (state.screen !== "consent") running = !["done", "stopped"].includes(state.screen);
  draw();
})();

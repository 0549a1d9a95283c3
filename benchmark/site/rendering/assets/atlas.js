// A plane of points; pictures appear where there is room. Pans and zooms by mouse, touch and keyboard.
"use strict";
(() => {
  const box = document.querySelector("[data-atlas]"), canvas = box.querySelector("canvas"), label = box.querySelector(".label");
  const told = document.querySelector(".said"), context = canvas.getContext("2d");
  const points = window.FEATVIS_ATLAS.map(([x, y, text, href, file]) => ({ x, y, text, href, file }));
  const PICTURE = 56, MARGIN = 40;
  let view = { x: 0.5, y: 0.5, scale: 1 }, active = -1, asked = false;
  const images = new Map();

  const across = () => ({ sx: (canvas.clientWidth - 2 * MARGIN) * view.scale, sy: (canvas.clientHeight - 2 * MARGIN) * view.scale });
  const to = (p) => { const { sx, sy } = across(); return [canvas.clientWidth / 2 + (p.x - view.x) * sx, canvas.clientHeight / 2 + (p.y - view.y) * sy]; };
  function draw() { if (!asked) { asked = true; requestAnimationFrame(paint); } }
  function picture(file) {
    if (!images.has(file)) {
      const image = new Image();
      image.onload = draw;
      image.src = `../pictures/${file}-s.webp`;
      images.set(file, image);
    }
    return images.get(file);
  }
  function paint() {
    asked = false;
    const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight, style = getComputedStyle(document.body);
    if (canvas.width !== w * ratio || canvas.height !== h * ratio) { canvas.width = w * ratio; canvas.height = h * ratio; }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, w, h);
    // A cell of a grid holds one picture: the first point in it, so that what is shown does not jump while one moves.
    const taken = new Set(), { sx, sy } = across(), cell = PICTURE + 6;
    const seen = points.map((p, i) => [i, ...to(p)]).filter(([, x, y]) => x > -PICTURE && y > -PICTURE && x < w + PICTURE && y < h + PICTURE);
    const shown = [];
    for (const [i, x, y] of seen) {
      const place = `${Math.floor(points[i].x * sx / cell)},${Math.floor(points[i].y * sy / cell)}`;
      if (points[i].file && (i === active || (!taken.has(place) && view.scale >= 1.5))) { taken.add(place); shown.push([i, x, y]); }
      context.fillStyle = points[i].href.includes("/class/") ? "#d55e00" : style.getPropertyValue("--accent");
      context.beginPath(); context.arc(x, y, i === active ? 6 : 3, 0, 7); context.fill();
    }
    for (const [i, x, y] of shown) {
      const image = picture(points[i].file), size = i === active ? PICTURE * 1.6 : PICTURE;
      if (image.complete && image.naturalWidth) {
        context.drawImage(image, x - size / 2, y - size / 2, size, size);
        if (i === active) { context.strokeStyle = style.color; context.lineWidth = 3; context.strokeRect(x - size / 2, y - size / 2, size, size); }
      }
    }
    box.dataset.pictures = shown.length; box.dataset.scale = view.scale.toFixed(2);
  }
  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(400, Math.max(1, view.scale * factor)), before = across();
    const px = view.x + (x - canvas.clientWidth / 2) / before.sx, py = view.y + (y - canvas.clientHeight / 2) / before.sy;
    view.scale = scale;
    const after = across();
    view.x = px - (x - canvas.clientWidth / 2) / after.sx; view.y = py - (y - canvas.clientHeight / 2) / after.sy;
    pan(0, 0);
  }
  function pan(dx, dy) {
    const { sx, sy } = across();
    view.x = Math.min(1, Math.max(0, view.x - dx / sx)); view.y = Math.min(1, Math.max(0, view.y - dy / sy));
    draw();
  }
  function all() { view = { x: 0.5, y: 0.5, scale: 1 }; draw(); }
  function nearest(x, y, within = Infinity) {
    let best = -1, least = within;
    points.forEach((p, i) => { const [px, py] = to(p), d = Math.hypot(px - x, py - y); if (d < least) { least = d; best = i; } });
    return best;
  }
  // Without a pointer there is no place to zoom in on: it is what is active, or nearest the middle, never an empty one.
  function closer(factor) {
    const p = points[active >= 0 ? active : nearest(canvas.clientWidth / 2, canvas.clientHeight / 2)];
    if (p) { view.x = p.x; view.y = p.y; }
    zoom(factor);
  }
  function activate(i, speak) {
    if (i === active) return;
    active = i;
    label.hidden = i < 0;
    label.textContent = i < 0 ? "" : points[i].text;
    if (speak && i >= 0) told.textContent = points[i].text;
    draw();
  }
  const open = () => { if (active >= 0) location.href = `../${points[active].href}`; };

  // Pointers: one drags, two pinch; a click that moved nothing opens what is under it.
  const down = new Map();
  let moved = 0;
  const at = (event) => { const b = canvas.getBoundingClientRect(); return [event.clientX - b.x, event.clientY - b.y]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); down.set(event.pointerId, at(event)); moved = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event), was = down.get(event.pointerId);
    if (!was) return activate(nearest(...here, PICTURE / 2), false);
    if (down.size === 2) {
      const [a, b] = [...down.values()], other = was === a ? b : a;
      zoom(Math.hypot(here[0] - other[0], here[1] - other[1]) / Math.max(1, Math.hypot(was[0] - other[0], was[1] - other[1])), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
    } else pan(here[0] - was[0], here[1] - was[1]);
    moved += Math.hypot(here[0] - was[0], here[1] - was[1]);
    down.set(event.pointerId, here);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
    if (!down.delete(event.pointerId) || down.size || moved > 4 || name === "pointercancel") return;
    activate(nearest(...at(event), PICTURE / 2), true);
    open();
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...at(event)); }, { passive: false });
  const ring = [];
  function next() {
    // The points by their distance from the middle, each once, until one moves.
    const key = `${view.x},${view.y},${view.scale}`;
    if (ring.key !== key) {
      ring.key = key; ring.at = -1;
      ring.splice(0, ring.length, ...points.map((p, i) => [Math.hypot(to(p)[0] - canvas.clientWidth / 2, to(p)[1] - canvas.clientHeight / 2), i]).sort((a, b) => a[0] - b[0]).map(([, i]) => i));
    }
    ring.at = (ring.at + 1) % ring.length;
    activate(ring[ring.at], true);
  }
  const keys = { ArrowLeft: () => pan(80, 0), ArrowRight: () => pan(-80, 0), ArrowUp: () => pan(0, 80), ArrowDown: () => pan(0, -80), "+": () => closer(1.5), "=": () => closer(1.5), "-": () => zoom(1 / 1.5), 0: all, n: next, N: next, Enter: open };
  canvas.addEventListener("keydown", (event) => { if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); } });
  box.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => ({ in: () => closer(1.6), out: () => zoom(1 / 1.6), all })[button.dataset.zoom]()));
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();

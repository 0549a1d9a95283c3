"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const units = [...document.querySelectorAll(".unit")];
  const pictures = [...document.querySelectorAll(".shot img")];
  const alpha = $("alpha"), grounds = $("grounds"), filter = $("filter"), viewer = $("viewer"), large = $("large");
  let current = -1;

  // Lazy images stay lazy: a new address is fetched only when its picture comes near the window.
  const address = (image) => (alpha.checked ? image.dataset.alpha : image.dataset.opaque);
  const paint = () => {
    root.dataset.transparency = alpha.checked ? "on" : "off";
    grounds.disabled = !alpha.checked;
    for (const image of pictures) image.src = address(image);
    if (viewer.open) large.src = address(pictures[current]);
  };
  const sift = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const unit of units) {
      unit.hidden = !words.every((word) => unit.dataset.name.includes(word));
      shown += unit.hidden ? 0 : 1;
    }
    $("count").value = `${shown} of ${units.length}`;
  };
  const enlarge = (index) => {
    current = index;
    const image = pictures[index];
    large.src = address(image);
    large.alt = image.alt;
    const facts = image.closest("figure").querySelector("figcaption").textContent.trim();
    $("caption").textContent = `${image.closest(".unit").querySelector("h3").textContent.trim()} · ${facts}`;
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    for (let i = current + by; i >= 0 && i < pictures.length; i += by) {
      if (!pictures[i].closest(".unit").hidden) return enlarge(i);
    }
  };

  alpha.addEventListener("change", paint);
  filter.addEventListener("input", sift);
  grounds.addEventListener("change", (event) => { root.dataset.ground = event.target.value; });
  pictures.forEach((image, i) => image.closest(".shot").addEventListener("click", () => enlarge(i)));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => pictures[current]?.closest(".shot").focus());
  document.addEventListener("keydown", (event) => {
    const typing = document.activeElement === filter;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!typing && event.key.toLowerCase() === "t") { alpha.checked = !alpha.checked; paint(); }
    if (!typing && event.key === "/" && !viewer.open) { event.preventDefault(); filter.focus(); }
    if (viewer.open && event.key === "ArrowLeft") { event.preventDefault(); step(-1); }
    if (viewer.open && event.key === "ArrowRight") { event.preventDefault(); step(1); }
  });
  // A browser may keep a form's state over a reload.
  for (const radio of grounds.querySelectorAll("input")) if (radio.checked) root.dataset.ground = radio.value;
  paint();
  sift();
})();

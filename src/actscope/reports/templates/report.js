"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("cards");
  const cards = Array.from(list.children);
  const controls = { q: byId("search"), show: byId("show"), sort: byId("sort") };
  const spaces = byId("spaces");

  const orders = {
    sure: (a, b) => a.rank - b.rank,
    detection: (a, b) => b.detection - a.detection,
    density: (a, b) => a.density - b.density,
    latent: (a, b) => a.latent - b.latent,
  };

  function visible() {
    return Array.from(list.children).filter((card) => !card.hidden);
  }

  function apply() {
    const terms = controls.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const card of cards) {
      const kind = controls.show.value;
      const wanted = kind === "all" || kind === card.dataset.status;
      card.hidden = !(wanted && terms.every((term) => card.dataset.text.includes(term)));
    }
    const order = orders[controls.sort.value];
    list.append(...cards.slice().sort((a, b) => order(a.dataset, b.dataset)));
    const count = visible().length;
    byId("shown").textContent = count === cards.length ? `${count} features` : `${count} of ${cards.length} features`;
    byId("nothing").hidden = count > 0;
    document.body.classList.toggle("spaces", spaces.checked);
  }

  // The state stands in the address after "#?", so that a view can be kept and sent.
  function remember() {
    const state = new URLSearchParams();
    if (controls.q.value) state.set("q", controls.q.value);
    if (controls.show.value !== "all") state.set("show", controls.show.value);
    if (controls.sort.value !== "sure") state.set("sort", controls.sort.value);
    if (spaces.checked) state.set("spaces", "1");
    history.replaceState(null, "", "#" + (state.size ? "?" + state : ""));
  }

  function recall() {
    if (!location.hash.startsWith("#?")) return;
    const state = new URLSearchParams(location.hash.slice(2));
    controls.q.value = state.get("q") || "";
    for (const name of ["show", "sort"]) {
      const option = Array.from(controls[name].options).find((one) => one.value === state.get(name));
      controls[name].value = option ? option.value : controls[name].options[0].value;
    }
    spaces.checked = state.get("spaces") === "1";
  }

  function change() {
    apply();
    remember();
  }

  function step(by) {
    const shown = visible();
    const now = shown.indexOf(document.activeElement && document.activeElement.closest(".card"));
    const next = shown[Math.max(0, Math.min(shown.length - 1, now + by))];
    if (next) {
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "start" });
    }
  }

  for (const control of [...Object.values(controls), spaces]) control.addEventListener("input", change);
  byId("reset").addEventListener("click", () => {
    controls.q.value = "";
    controls.show.value = "all";
    change();
    controls.q.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && event.target === controls.q) {
      controls.q.value = "";
      change();
      controls.q.blur();
    } else if (!typing && event.key === "/") {
      event.preventDefault();
      controls.q.focus();
    } else if (!typing && (event.key === "j" || event.key === "k")) {
      step(event.key === "j" ? 1 : -1);
    }
  });
  // A link from the chart to a card that the filter hides shows it again.
  window.addEventListener("hashchange", () => {
    const card = cards.find((one) => "#" + one.id === location.hash);
    if (card && card.hidden) {
      controls.q.value = "";
      controls.show.value = "all";
      apply();
      card.scrollIntoView({ block: "start" });
    } else if (!card) {
      recall();
      apply();
    }
  });
  recall();
  byId("controls").hidden = false;
  apply();
})();

// The page works without any of this: theme button, contents on narrow screens, sorting, finding, copying.
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector, from = document) => from.querySelector(selector);

  // Theme
  const button = one(".theme-button");
  const dusk = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dusk.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    one(".theme-word", button).textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Switch to the light theme" : "Switch to the dark theme");
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("report-theme", root.dataset.theme); } catch { /* no storage */ }
    show();
  });
  dusk.addEventListener("change", show);
  show();

  // Contents on narrow screens
  const menu = one(".menu-button");
  const list = one("#nav-list");
  const open = (wanted) => {
    menu.setAttribute("aria-expanded", String(wanted));
    list.classList.toggle("open", wanted);
  };
  menu.addEventListener("click", () => open(menu.getAttribute("aria-expanded") !== "true"));
  list.addEventListener("click", (event) => { if (event.target.closest("a")) open(false); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.getAttribute("aria-expanded") === "true") { open(false); menu.focus(); }
  });

  // Where the reader is
  const links = new Map(all(".nav-list a[href^='#']").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
  const targets = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? seen.add(entry.target) : seen.delete(entry.target);
    const current = targets.filter((target) => seen.has(target)).pop();
    for (const link of links.values()) link.removeAttribute("aria-current");
    if (!current) return;
    const link = links.get(current.id);
    link.setAttribute("aria-current", "true");
    const box = link.closest(".nav-list");
    if (box.scrollHeight > box.clientHeight) {
      const delta = link.getBoundingClientRect().top - box.getBoundingClientRect().top;
      if (delta < 0 || delta > box.clientHeight - 40) box.scrollTop += delta - box.clientHeight / 2;
    }
  }, { rootMargin: "-12% 0px -70% 0px" });
  targets.forEach((target) => watch.observe(target));

  // Sorting
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const sort = one(".sort", head);
      if (!sort) return;
      sort.addEventListener("click", () => {
        const upward = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", upward ? "ascending" : "descending");
        const body = one("tbody", table);
        const key = (row) => {
          const cell = row.cells[column];
          return "key" in cell.dataset ? Number(cell.dataset.key.replace("inf", "Infinity")) : cell.textContent.trim();
        };
        const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
        all("tr", body).sort((a, b) => (upward ? 1 : -1) * compare(key(a), key(b))).forEach((row) => body.append(row));
      });
    });
  }

  // Finding and ordering cases
  const finder = one(".finder");
  if (finder) {
    finder.hidden = false;
    const index = one(".index");
    const items = all("li", index);
    const found = one(".found", finder);
    finder.addEventListener("submit", (event) => event.preventDefault());
    one(".find", finder).addEventListener("input", (event) => {
      const wanted = event.target.value.trim().toLowerCase();
      let count = 0;
      for (const item of items) {
        item.hidden = !item.dataset.words.toLowerCase().includes(wanted);
        if (!item.hidden) count += 1;
      }
      found.textContent = wanted ? `${count} of ${items.length}` : "";
    });
    one(".order", finder).addEventListener("change", (event) => {
      const name = `data-${event.target.value.replace(".", "-").replace(":", "").replace("*", "any").replaceAll("_", "-")}`;
      const upward = /psnr|ssim/.test(name);  // worst first
      const key = (item) => {
        if (!item.hasAttribute(name)) return -Infinity;
        const value = Number(item.getAttribute(name));
        return upward ? -value : Math.abs(value);
      };
      const ordered = event.target.value ? [...items].sort((a, b) => key(b) - key(a)) : items;
      ordered.forEach((item) => index.append(item));
    });
  }

  // Copying
  for (const copy of all(".copy")) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const text = all("p", document.getElementById(copy.dataset.from)).map((p) => p.textContent.trim()).join("\n\n");
      const said = copy.parentElement.querySelector(".copied");
      try {
        await navigator.clipboard.writeText(text);
        said.textContent = "Copied.";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById(copy.dataset.from));
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        said.textContent = "Selected: press Ctrl+C.";
      }
    });
  }

  // Folded parts that a link leads into are opened; everything is open on paper.
  const unfold = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();

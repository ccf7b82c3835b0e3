"use strict";
(() => {
  const HEAD = 17, GAP = 2, LEAST_SIDE = 3, LEAST_FOLDER = 34, LEAST_LABEL = 40, MOST_CELLS = 2500, NEARLY_ALL = 0.97;
  const $ = (id) => document.getElementById(id);
  const map = $("map"), crumbs = $("crumbs"), tip = $("tip");
  const titles = new Map([...document.querySelectorAll(".legend li")].map((li) => [li.dataset.k, li.textContent]));

  // The tree is read from the nested lists of the page, which hold everything that is shown.
  function read(element, parent) {
    const folder = element.tagName === "DETAILS";
    const cells = folder ? element.querySelector(":scope > summary").children : element.cells;
    const node = {
      name: cells[0].textContent.trim(), text: cells[1].textContent.trim(), size: Number(element.dataset.n),
      files: Number(element.dataset.f || 1), kind: element.dataset.k || "mixed", parent, children: [],
    };
    if (folder) {
      for (const child of element.children) {
        if (child.tagName === "DETAILS") node.children.push(read(child, node));
        if (child.tagName === "TABLE") for (const row of child.rows) node.children.push(read(row, node));
      }
      node.children.sort((a, b) => b.size - a.size);
      node.kind = largestKind(node);
    }
    return node;
  }

  function largestKind(node) {
    const sums = new Map();
    for (const child of node.children) sums.set(child.kind, (sums.get(child.kind) || 0) + child.size);
    return [...sums].reduce((best, each) => (each[1] > best[1] ? each : best), ["mixed", -1])[0];
  }

  // Squarified treemaps: Bruls, Huizing, van Wijk (2000). Nodes come largest first; areas are in square pixels.
  function squarify(nodes, x, y, w, h) {
    const placed = [];
    const total = nodes.reduce((sum, node) => sum + node.size, 0);
    const scale = total ? (w * h) / total : 0;
    let at = 0;
    while (at < nodes.length && nodes[at].size > 0 && w > 0 && h > 0) {
      const side = Math.min(w, h), first = nodes[at].size * scale;
      let sum = 0, best = Infinity, end = at;
      while (end < nodes.length && nodes[end].size > 0) {
        const area = nodes[end].size * scale, thick = (sum + area) / side;
        const worst = Math.max(first / (thick * thick), (thick * thick) / area);
        if (worst > best) break;
        [best, sum, end] = [worst, sum + area, end + 1];
      }
      const thick = sum / side;
      let along = 0;
      for (; at < end; at++) {
        const length = (nodes[at].size * scale) / thick;
        placed.push(w < h ? [nodes[at], x + along, y, length, thick] : [nodes[at], x, y + along, thick, length]);
        along += length;
      }
      if (w < h) [y, h] = [y + thick, h - thick];
      else [x, w] = [x + thick, w - thick];
    }
    return placed;
  }

  const root = read($("files").querySelector("details"), null);
  let shown = root, drawn = [];

  function path(node, from = root) {
    const names = [];
    for (let each = node; each !== from; each = each.parent) names.unshift(each.name);
    return names.join("/") || root.name;
  }

  function share(part, whole) {
    const percent = whole.size ? (100 * part.size) / whole.size : 0;
    return `${percent < 1 ? percent.toFixed(1) : Math.round(percent)} %`;
  }

  function facts(node) {
    const lines = [`${node.text}, ${share(node, root)} of everything`];
    if (shown !== root) lines[0] += `, ${share(node, shown)} of ${shown.name}`;
    if (node.files > 1) lines.push(`${node.files.toLocaleString("en")} files`);
    const kind = titles.get(node.kind);
    if (kind) lines.push(node.children.length ? `mostly ${kind}` : kind);
    return lines;
  }

  function draw() {
    const box = map.getBoundingClientRect();
    drawn = [];
    const cells = document.createDocumentFragment();
    place(shown, cells, 0, 0, box.width, box.height, true);
    map.replaceChildren(cells);
    hideTip();
  }

  // A folder inside a package that is nearly all of the folder around it is drawn in place of that one.
  function inmost(node) {
    const first = node.children[0];
    return first && first.children.length && first.size >= NEARLY_ALL * node.size ? inmost(first) : node;
  }

  function place(parent, into, x, y, w, h, top) {
    for (const [outer, left, up, width, height] of squarify(parent.children, x, y, w, h)) {
      const node = top ? outer : inmost(outer);
      if (width < LEAST_SIDE || height < LEAST_SIDE || drawn.length >= MOST_CELLS) continue;
      const cell = document.createElement("div"), inside = node.children.length > 0;
      const open = inside && width >= LEAST_FOLDER && height >= LEAST_FOLDER;
      cell.className = `cell ${open ? "folder" : node.kind}${top ? " top" : ""}${top && inside ? " zoom" : ""}`;
      cell.dataset.i = drawn.push(node) - 1;
      for (const [key, value] of [["left", left], ["top", up], ["width", width], ["height", height]])
        cell.style[key] = `${value}px`;
      if (top) {
        cell.tabIndex = drawn.length === 1 ? 0 : -1;
        cell.setAttribute("role", inside ? "button" : "img");
        cell.setAttribute("aria-label", [node.name, ...facts(node)].join(", "));
      }
      if (width >= LEAST_LABEL && height > 15) {
        const label = document.createElement("span");
        const name = width > 240 ? path(node, outer.parent) : top ? node.name : node.name.split("/").pop();
        label.textContent = top || width > 110 ? `${name} ${node.text}` : name;
        cell.append(label);
      }
      if (open) place(node, cell, GAP, HEAD, width - 2 * GAP - 2, height - HEAD - GAP - 2, false);
      into.append(cell);
    }
  }

  function trail() {
    const nodes = [];
    for (let each = shown; each; each = each.parent) nodes.unshift(each);
    crumbs.replaceChildren(...nodes.flatMap((node, depth) => {
      const last = node === shown, part = document.createElement(last ? "b" : "button");
      part.textContent = last ? `${node.name}, ${node.text}` : node.name;
      if (!last) part.addEventListener("click", () => zoom(node));
      const slash = document.createElement("i");
      slash.textContent = "/";
      return depth ? [slash, part] : [part];
    }));
  }

  // The place is kept in the address, so that the browser's buttons go back and forward.
  function zoom(node) {
    const steps = [];
    for (let each = node; each !== root; each = each.parent) steps.unshift(each.parent.children.indexOf(each));
    location.hash = `/${steps.join("/")}`;
  }

  function go() {
    let node = root;
    for (const step of location.hash.split("/").slice(1).filter(Boolean)) {
      const next = node.children[Number(step)];
      if (!next || !next.children.length) break;
      node = next;
    }
    const before = shown, focused = map.contains(document.activeElement);
    shown = node;
    trail();
    draw();
    if (focused) {
      const inside = (node, outer) => node && (node === outer || inside(node.parent, outer));
      const same = [...map.children].find((cell) => inside(before, drawn[cell.dataset.i]));
      (same || map.firstElementChild)?.focus();
    }
  }

  function showTip(node, x, y) {
    const name = document.createElement("b");
    name.textContent = path(node);
    tip.replaceChildren(name, ...facts(node).map((line) => {
      const span = document.createElement("span");
      span.textContent = line;
      return span;
    }));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 10) : y + 18}px`;
  }

  function hideTip() {
    tip.hidden = true;
  }

  const cellAt = (target) => (target instanceof Element ? target.closest(".cell") : null);
  map.addEventListener("pointermove", (event) => {
    const cell = cellAt(event.target);
    if (cell) showTip(drawn[cell.dataset.i], event.clientX, event.clientY);
  });
  map.addEventListener("pointerleave", hideTip);
  map.addEventListener("focusin", (event) => {
    for (const cell of map.children) cell.tabIndex = cell === event.target ? 0 : -1;
    if (!event.target.matches(":focus-visible")) return;
    const box = event.target.getBoundingClientRect();
    showTip(drawn[event.target.dataset.i], box.left, box.top + Math.min(box.height, 20));
  });
  map.addEventListener("focusout", hideTip);
  map.addEventListener("click", (event) => enter(event.target));
  map.addEventListener("keydown", (event) => {
    const direction = { ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowUp: [0, -1] }[event.key];
    if (event.key === "Enter" || event.key === " ") enter(event.target);
    else if (event.key === "Escape" || event.key === "Backspace") leave();
    else if (direction) neighbour(event.target, ...direction)?.focus();
    else return;
    event.preventDefault();
  });

  function enter(target) {
    const cell = target instanceof Element && target.closest(".cell.top");
    let node = cell && drawn[cell.dataset.i];
    if (!node || !node.children.length) return;
    while (onlyFolder(node)) [node] = node.children;
    zoom(node);
  }

  function leave() {
    let node = shown.parent || root;
    while (node.parent && onlyFolder(node)) node = node.parent;
    zoom(node);
  }

  const onlyFolder = (node) => node.children.length === 1 && node.children[0].children.length > 0;

  function neighbour(from, right, down) {
    const middle = (cell) => {
      const box = cell.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    };
    const [x, y] = middle(from);
    let found = null, least = Infinity;
    for (const cell of map.children) {
      const [left, up] = middle(cell);
      const along = (left - x) * right + (up - y) * down, across = Math.abs((left - x) * down + (up - y) * right);
      if (along > 1 && along + 2 * across < least) [found, least] = [cell, along + 2 * across];
    }
    return found;
  }

  addEventListener("scroll", hideTip, { passive: true });
  addEventListener("hashchange", go);
  $("treemap").hidden = false;
  let width = 0;
  new ResizeObserver(() => {
    if (width !== map.clientWidth) requestAnimationFrame(draw);
    width = map.clientWidth;
  }).observe(map);
  go();
})();

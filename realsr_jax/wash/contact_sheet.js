const sheet = JSON.parse($("data").textContent);
const STORAGE_KEY = `realsr-wash ${sheet.digest}`;
const LABELS = { lr: "LR", hr: "HR", difference: "Difference" };
const FILTERS = {
  all: () => true,
  rejected: (entry) => !entry.isClean,
  borderline: (entry) => entry.isClean,
  overturned: (entry) => overturned.has(entry.name),
};
const SVG = "http://www.w3.org/2000/svg";
const MAP_SIDE = 150; // of the longer side of maps, in the unit of their arrows
const LEVELS = [0, ...[1, 2, 4, 8].map((factor) => factor * sheet.scale)]; // screen pixels to an LR pixel; 0: fit
const CLICK = 4; // screen pixels that a click may move

const overturned = new Set(); // names
let current = -1; // the entry that keys act on; -1 before the first
let level = LEVELS.findIndex((zoom) => zoom >= 4); // one pixel can be told from the next

// ------------------------------------------------------------------------------------------- verdicts

/** Names of all pairs that are clean now, or of all others. */
function namesOf(isClean) {
  return sheet.pairs
    .filter(([name, wasClean]) => (wasClean !== overturned.has(name)) === isClean)
    .map(([name]) => name);
}

function save(isClean) {
  const text = namesOf(isClean).map((name) => `${name}\n`).join("");
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  make("a", { href: url, download: isClean ? "clean.txt" : "rejected.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // by then the browser has read it
}

function overturn(entry) {
  if (!overturned.delete(entry.name)) overturned.add(entry.name);
  showVerdict(entry);
  showCounts();
  store();
}

function reset() {
  if (!confirm(`Take back what was overturned (${overturned.size})?`)) return;
  overturned.clear();
  sheet.entries.forEach(showVerdict);
  showCounts();
  applyFilter();
  store();
}

function store() {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify([...overturned]));
  } catch {
    $("volatile").hidden = false;
  }
}

function restore() {
  try {
    const names = new Set(JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? []);
    for (const { name } of sheet.entries) if (names.has(name)) overturned.add(name);
  } catch {
    // Without storage, or with something else in it, nothing was overturned.
  }
}

// ------------------------------------------------------------------------------------------- showing

function showVerdict(entry) {
  const { card, isClean, name } = entry;
  const isOverturned = overturned.has(name);
  const isCleanNow = isClean !== isOverturned;
  card.classList.toggle("clean", isCleanNow);
  card.classList.toggle("rejected", !isCleanNow);
  card.classList.toggle("overturned", isOverturned);
  card.querySelector(".badge").textContent = isCleanNow ? "Clean" : "Rejected";
  card.querySelector(".overturn").ariaPressed = String(isOverturned);
}

function showCounts() {
  const clean = namesOf(true).length;
  $("clean-count").textContent = clean.toLocaleString("en");
  $("rejected-count").textContent = (sheet.pairs.length - clean).toLocaleString("en");
  $("overturned-count").textContent = overturned.size.toLocaleString("en");
  $("reset").disabled = overturned.size === 0;
}

/** Shows what the filter asks for now; a card does not vanish under the hand that overturns it. */
function applyFilter() {
  const isShown = FILTERS[document.querySelector("#filter :checked").value];
  for (const entry of sheet.entries) entry.card.hidden = !isShown(entry);
  $("empty").hidden = sheet.entries.some(isShown);
  placeAll();
  choose(-1);
}

function makeCard(entry, index) {
  const title = make("h2", { id: `name-${index}`, textContent: entry.name, title: entry.name });
  const button = make("button", { type: "button", className: "overturn", textContent: "Overturn" });
  button.setAttribute("aria-label", `Overturn ${entry.name}`);
  button.addEventListener("click", () => overturn(entry));
  const severity = make("span", { className: "severity", textContent: `severity ${entry.severity.toFixed(2)}` });
  severity.classList.toggle("over", entry.severity > 1);
  const verdict = make(
    "p",
    { className: "verdict" },
    make("span", { className: "badge" }),
    severity,
    make("span", { className: "reason", textContent: entry.reason }),
    make("span", { className: "flag", textContent: "overturned" }),
  );
  const rows = entry.figures.map(([label, text]) =>
    make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: text })),
  );
  const figures = make("dl", {}, ...rows);
  figures.setAttribute("aria-label", `Figures of ${entry.name}`);
  entry.centre = centreOf(entry.details.lr.box);
  entry.panes = [makePane(entry, "lr"), makePane(entry, "hr")];
  entry.card = make(
    "article",
    { className: "card" },
    make("div", { className: "about" }, title, verdict, button),
    ...entry.panes.map(({ figure }) => figure),
    makeMap(entry),
    figures,
  );
  entry.card.setAttribute("aria-labelledby", title.id);
  entry.card.addEventListener("focusin", () => choose(index));
  entry.card.addEventListener("click", () => button.focus({ preventScroll: true }));
  return entry.card;
}

function makeImage(kind, src, name) {
  const alt = name === undefined ? "" : `${LABELS[kind]} of ${name}`;
  return make("img", { src, alt, draggable: false, decoding: "sync" }); // or blinking would flash
}

/** Places an element by a box: left and upper end, width and height, as shares of what it is in. */
function putInto(element, box) {
  ["left", "top", "width", "height"].forEach((side, index) => {
    element.style[side] = `${100 * box[index]}%`;
  });
}

const centreOf = ([left, top, width, height]) => ({ x: left + width / 2, y: top + height / 2 });

// ------------------------------------------------------------------------------- panes and their zoom

/** A place where LR or HR is seen, enlarged; both of a pair show the same part, swapped after a blink. */
function makePane(entry, own) {
  const planes = ["lr", "hr"].map((kind) => {
    const { box, image } = entry.details[kind];
    const detail = makeImage(kind, image);
    putInto(detail, box);
    return make("div", { className: `plane ${kind}` }, makeImage(kind, entry.images[kind], entry.name), detail);
  });
  const stage = make("div", { className: "stage" }, ...planes);
  const caption = make("figcaption", {});
  const figure = make("figure", { className: own }, stage, caption);
  const show = (kind) => {
    figure.dataset.shown = kind;
    caption.textContent = LABELS[kind];
  };
  show(own);
  letDrag(entry, stage);
  return { own, figure, stage, planes, show };
}

/** Shows LR in HR's place and HR in LR's, or takes that back. */
function blink(entry) {
  const isSwapped = entry.card.classList.toggle("swapped");
  for (const { own, show } of entry.panes) show(isSwapped === (own === "lr") ? "hr" : "lr");
}

/** Lets a pane be dragged, and blinks where it was only clicked. */
function letDrag(entry, stage) {
  let last; // where the pointer was
  let moved = 0;
  stage.addEventListener("pointerdown", (event) => {
    [last, moved] = [{ x: event.clientX, y: event.clientY }, 0];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    moved = Math.max(moved, Math.hypot(dx, dy));
    if (moved <= CLICK) return;
    last = { x: event.clientX, y: event.clientY };
    const zoom = zoomOf(entry, stage);
    lookAt(entry, entry.centre.x - dx / (zoom * entry.width), entry.centre.y - dy / (zoom * entry.height));
  });
  stage.addEventListener("click", () => {
    if (moved <= CLICK) blink(entry);
  });
}

/** Screen pixels to an LR pixel. */
function zoomOf({ width, height }, { clientWidth, clientHeight }) {
  return LEVELS[level] || Math.min(clientWidth / width, clientHeight / height);
}

/** Turns the panes to a place, in shares of the picture, as near as it can be without a look beyond its ends. */
function lookAt(entry, x, y) {
  const { stage } = entry.panes[0];
  entry.centre = place(entry, { x, y }, stage);
}

/** Puts planes, and the frame on the map, where they belong in panes of a size; returns what is in the middle. */
function place(entry, centre, room) {
  const zoom = zoomOf(entry, room);
  const [width, height] = [entry.width * zoom, entry.height * zoom];
  const within = (share, size, side) => {
    const margin = Math.min(size / (2 * side), 0.5);
    return Math.min(Math.max(share, margin), 1 - margin);
  };
  const [x, y] = [within(centre.x, room.clientWidth, width), within(centre.y, room.clientHeight, height)];
  const [left, top] = [Math.round(room.clientWidth / 2 - x * width), Math.round(room.clientHeight / 2 - y * height)];
  for (const { planes } of entry.panes) {
    for (const { style } of planes) {
      [style.left, style.top, style.width, style.height] = [left, top, width, height].map((side) => `${side}px`);
    }
  }
  const [first, last] = [Math.max(-left, 0) / width, Math.min((room.clientWidth - left) / width, 1)];
  const [upper, lower] = [Math.max(-top, 0) / height, Math.min((room.clientHeight - top) / height, 1)];
  putInto(entry.frame, [first, upper, last - first, lower - upper]);
  return { x, y };
}

function placeAll() {
  const shown = sheet.entries.filter(({ card }) => !card.hidden);
  const [stage] = shown.map(({ panes }) => panes[0].stage);
  if (stage === undefined) return;
  const room = { clientWidth: stage.clientWidth, clientHeight: stage.clientHeight }; // all have one size
  for (const entry of shown) place(entry, entry.centre, room);
}

function setLevel(wanted) {
  level = Math.min(Math.max(wanted, 0), LEVELS.length - 1);
  $("cards").classList.toggle("whole", level === 0);
  $("level").textContent = level === 0 ? "whole picture" : `LR pixel \u00d7 ${LEVELS[level]}`;
  $("zoom-out").disabled = level === 0;
  $("zoom-in").disabled = level === LEVELS.length - 1;
  placeAll();
}

// ----------------------------------------------------------------------------------------------- map

/** The whole picture: where it differs, local shifts, and what the panes show; a click looks there. */
function makeMap(entry) {
  const [arrows, note] = makeArrows(entry);
  const detail = make("span", { className: "detail", ariaHidden: "true" });
  putInto(detail, entry.details.lr.box);
  entry.frame = make("span", { className: "frame", ariaHidden: "true" });
  const image = makeImage("difference", entry.images.difference, entry.name);
  const stage = make("div", { className: "stage" }, image, ...arrows, detail, entry.frame);
  stage.addEventListener("click", (event) => {
    const box = stage.getBoundingClientRect();
    lookAt(entry, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  const figure = make("figure", { className: "map" }, stage, make("figcaption", {}, ...note));
  figure.style.setProperty("--aspect", entry.width / entry.height);
  return figure;
}

/** The arrows, and a bar that tells their scale, which is chosen for each pair. */
function makeArrows(entry) {
  const { shifts } = entry;
  if (shifts.length === 0) return [[], ["no shifts measured"]];
  const unit = MAP_SIDE / Math.max(entry.width, entry.height);
  const [width, height] = [entry.width * unit, entry.height * unit];
  const trusted = shifts.filter(([, , , , confidence]) => confidence >= 0.5);
  const lengths = (trusted.length ? trusted : shifts).map(([, , dx, dy]) => Math.hypot(dx, dy));
  const longest = Math.max(...lengths, 0.2); // so that what is negligible looks so
  const spacing = Math.sqrt((width * height) / shifts.length);
  const scale = Math.min(1.25 * spacing, 0.2 * Math.min(width, height)) / longest; // of a LR pixel
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${shifts.length} local shifts`);
  const paths = {}; // by opacity
  for (const [x, y, dx, dy, confidence] of shifts) {
    const opacity = Math.ceil(10 * confidence) / 10;
    paths[opacity] = (paths[opacity] ?? "") + arrowPath(x * width, y * height, dx * scale, dy * scale);
  }
  for (const [opacity, path] of Object.entries(paths)) {
    const group = document.createElementNS(SVG, "g");
    group.setAttribute("opacity", opacity);
    for (const name of ["halo", "line"]) {
      const element = document.createElementNS(SVG, "path");
      element.setAttribute("class", name);
      element.setAttribute("d", path);
      group.append(element);
    }
    svg.append(group);
  }
  return [[svg], makeScale(longest, (100 * scale) / width)];
}

/** An arrow, or a dot if it is short. */
function arrowPath(x, y, dx, dy) {
  const number = (value) => value.toFixed(1);
  const head = (angle) => {
    const length = Math.min(5, 0.4 * Math.hypot(dx, dy));
    const direction = Math.atan2(dy, dx) + angle;
    return `l${number(length * Math.cos(direction))} ${number(length * Math.sin(direction))}`;
  };
  const tip = `M${number(x + dx)} ${number(y + dy)}`;
  const shaft = `M${number(x)} ${number(y)}l${number(dx)} ${number(dy)}`;
  return Math.hypot(dx, dy) < 2 ? shaft : `${shaft}${tip}${head(2.6)}${tip}${head(-2.6)}`;
}

/** A bar of 1, 2 or 5 times a power of ten, no longer than the longest arrow. */
function makeScale(longest, percentPerPixel) {
  const power = 10 ** Math.floor(Math.log10(longest));
  const length = [5, 2, 1].find((factor) => factor * power <= longest) * power;
  const bar = make("span", { className: "ruler", ariaHidden: "true" });
  bar.style.width = `${length * percentPerPixel}cqw`;
  return [bar, `${Number(length.toPrecision(1))} LR px`];
}

// -------------------------------------------------------------------------------------------- events

function choose(index) {
  sheet.entries[current]?.card.classList.remove("current");
  sheet.entries[index]?.card.classList.add("current");
  current = index;
}

/** Goes to the next card that is shown, or to the one before. */
function step(by) {
  let index = current + by;
  while (sheet.entries[index]?.card.hidden) index += by;
  const card = sheet.entries[index]?.card;
  card?.querySelector(".overturn").focus({ preventScroll: true });
  card?.scrollIntoView({ block: "nearest" });
}

/** Acts on keys that no control wants; Space and Enter press the button of the card that was stepped to. */
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { key, repeat, target } = event;
  const isFilter = target.matches("input"); // arrows choose among those
  const entry = sheet.entries[current];
  if (key === "j" || (key === "ArrowDown" && !isFilter)) step(1);
  else if (key === "k" || (key === "ArrowUp" && !isFilter)) step(-1);
  else if (key === "b" && !repeat) {
    if (entry === undefined) step(1);
    if (sheet.entries[current]) blink(sheet.entries[current]);
  } else if (key === "+" || key === "=") setLevel(level + 1);
  else if (key === "-") setLevel(level - 1);
  else if ((key === " " || key === "Enter") && target === document.body && entry && !repeat) overturn(entry);
  else if (key !== "Enter" || !repeat) return; // a key held down would press a button again and again
  event.preventDefault();
}

function start() {
  $("title").textContent = sheet.title;
  const number = (count) => count.toLocaleString("en");
  $("scope").textContent =
    `${number(sheet.entries.length)} of ${number(sheet.pairs.length)} pairs, the worst first; severity 1 is the limit.`;
  $("cards").append(...sheet.entries.map(makeCard));
  restore();
  sheet.entries.forEach(showVerdict);
  showCounts();
  applyFilter();
  setLevel(level);
  $("filter").addEventListener("change", applyFilter);
  $("zoom-out").addEventListener("click", () => setLevel(level - 1));
  $("zoom-in").addEventListener("click", () => setLevel(level + 1));
  $("save-clean").addEventListener("click", () => save(true));
  $("save-rejected").addEventListener("click", () => save(false));
  $("reset").addEventListener("click", reset);
  document.addEventListener("keydown", onKey);
  // Cards are scrolled to below the bar, however many rows it has.
  const root = document.documentElement;
  new ResizeObserver(() => root.style.setProperty("--bar", `${$("bar").offsetHeight}px`)).observe($("bar"));
  new ResizeObserver(placeAll).observe($("cards"));
}

start();

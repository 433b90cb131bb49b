const sheet = JSON.parse($("data").textContent);
const STORAGE_KEY = `realsr-wash ${sheet.digest}`;
const LABELS = { lr: "LR", hr: "HR", difference: "Difference", shifts: "Shifts" };
const FILTERS = {
  all: () => true,
  rejected: (entry) => !entry.isClean,
  borderline: (entry) => entry.isClean,
  overturned: (entry) => overturned.has(entry.name),
};
const SVG = "http://www.w3.org/2000/svg";

const overturned = new Set(); // names
let current = -1; // the entry that keys act on; -1 before the first

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
  choose(-1);
}

function makeCard(entry, index) {
  const title = make("h2", { id: `name-${index}`, textContent: entry.name });
  const button = make("button", { type: "button", className: "overturn", textContent: "Overturn" });
  button.setAttribute("aria-label", `Overturn ${entry.name}`);
  button.addEventListener("click", () => overturn(entry));
  const verdict = make(
    "div",
    { className: "verdict" },
    make("span", { className: "badge" }),
    title,
    make("span", { className: "reason", textContent: entry.reason }),
    make("span", { className: "flag", textContent: "overturned" }),
  );
  const severity = make("span", { className: "severity", textContent: `severity ${entry.severity.toFixed(2)}` });
  severity.classList.toggle("over", entry.severity > 1);
  const heading = make("div", { className: "heading" }, verdict, severity, button);
  const pictures = make(
    "div",
    { className: "pictures" },
    makeBlinking(entry, "lr", "hr"),
    makeBlinking(entry, "hr", "lr"),
    makeFigure(entry, "difference", makeImage(entry, "difference")),
    makeFigure(entry, "shifts", makeImage(entry, "hr"), ...makeArrows(entry)),
  );
  const rows = entry.figures.map(([label, text]) =>
    make("tr", {}, make("th", { scope: "row", textContent: label }), make("td", { textContent: text })),
  );
  const table = make("table", {}, make("tbody", {}, ...rows));
  table.setAttribute("aria-label", `Figures of ${entry.name}`);
  entry.card = make("article", { className: "card" }, heading, make("div", { className: "body" }, pictures, table));
  entry.card.setAttribute("aria-labelledby", title.id);
  entry.card.addEventListener("focusin", () => choose(index));
  entry.card.addEventListener("click", () => button.focus({ preventScroll: true }));
  return entry.card;
}

function makeImage({ images, name, width, height }, kind) {
  return make("img", { src: images[kind], alt: `${LABELS[kind]} of ${name}`, width, height, draggable: false });
}

function makeFigure(entry, kind, ...layers) {
  const stage = make("div", { className: "stage" }, ...layers);
  const figure = make("figure", { className: kind }, stage, make("figcaption", { textContent: LABELS[kind] }));
  figure.style.setProperty("--aspect", entry.width / entry.height);
  return figure;
}

/** A picture in whose place the other appears while a mouse is over it, and by clicks. */
function makeBlinking(entry, own, other) {
  const image = makeImage(entry, own);
  const figure = makeFigure(entry, own, image);
  let shown = own;
  let isUnderMouse = false;
  const show = (kind) => {
    shown = kind;
    image.src = entry.images[kind];
    image.alt = `${LABELS[kind]} of ${entry.name}`;
    figure.querySelector("figcaption").textContent = LABELS[kind];
    figure.classList.toggle("flipped", kind !== own);
  };
  const flip = () => show(shown === own ? other : own);
  const stage = figure.querySelector(".stage");
  // Not on entering: a page that scrolls under a resting mouse must not flip.
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || isUnderMouse) return;
    isUnderMouse = true;
    show(other);
  });
  stage.addEventListener("pointerleave", () => {
    if (!isUnderMouse) return;
    isUnderMouse = false;
    show(own);
  });
  stage.addEventListener("click", flip);
  if (own === "lr") entry.blink = flip;
  return figure;
}

// -------------------------------------------------------------------------------------------- shifts

/** The arrows and the bar that tells their scale, which is chosen for each pair. */
function makeArrows({ shifts, width, height }) {
  if (shifts.length === 0) return [make("span", { className: "scale", textContent: "none measured" })];
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
  return [svg, makeScale(longest, (100 * scale) / width)];
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
  return make("span", { className: "scale" }, bar, `${Number(length.toPrecision(1))} LR px`);
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
  card?.scrollIntoView({ block: "start" });
}

/** Acts on keys that no control wants; Space and Enter press the button of the card that was stepped to. */
function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { key, repeat, target } = event;
  const isFilter = target.matches("input"); // arrows choose among those
  const entry = sheet.entries[current];
  if (key === "j" || (key === "ArrowDown" && !isFilter)) step(1);
  else if (key === "k" || (key === "ArrowUp" && !isFilter)) step(-1);
  else if (key === "b" && entry && !repeat) entry.blink();
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
  $("filter").addEventListener("change", applyFilter);
  $("save-clean").addEventListener("click", () => save(true));
  $("save-rejected").addEventListener("click", () => save(false));
  $("reset").addEventListener("click", reset);
  document.addEventListener("keydown", onKey);
  // Cards are scrolled to below the bar, however many rows it has.
  const root = document.documentElement;
  new ResizeObserver(() => root.style.setProperty("--bar", `${$("bar").offsetHeight}px`)).observe($("bar"));
}

start();

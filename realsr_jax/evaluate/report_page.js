const report = JSON.parse($("data").textContent);
const LABELS = report.labels; // of the pictures, in order
const MEANS = { mean: "Mean", bicubic: "Bicubic", gain: "Gain" };
const STEP = 8;

const hasPictures = (index) => "images" in report.images[index]; // the others are too large for a page
let order = report.images.map((_, index) => index); // the rows as sorted
let current = order.find(hasPictures);
const kinds = Object.keys(LABELS).filter((kind) => kind in (report.images[current]?.images ?? {}));
const pictures = Object.fromEntries(kinds.map((kind) => [kind, new Image()]));
const crops = Object.fromEntries(kinds.map((kind) => [kind, new Image()]));
let region = { x: 0, y: 0, size: 1 };

const number = (figure) => (typeof figure === "string" ? Number(figure.replace("inf", "Infinity")) : figure);

function format(figure, column, isGain = false) {
  const value = number(figure);
  const text = Number.isFinite(value) ? value.toFixed(column.decimals) : String(figure);
  return isGain && value >= 0 ? `+${text}` : text;
}

// ------------------------------------------------------------------------------------------- figures

function showSummary() {
  $("subject").textContent = report.subject;
  $("rules").textContent = report.rules;
  const column = report.columns.find(({ field }) => field === report.headline);
  if (column === undefined) return; // pictures alone
  for (const [name, label] of [["mean", `Mean ${column.heading}`], ["gain", "Gain over bicubic"]]) {
    if (name in report.means) {
      const figure = format(report.means[name][column.field], column, name === "gain");
      $("tiles").append(
        make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: figure })),
      );
    }
  }
}

function cellsOf(scores, isGain) {
  return report.columns.map((column) =>
    make("td", { textContent: format(scores[column.field], column, isGain) }),
  );
}

function showTable() {
  if (report.columns.length === 0) $("scores-heading").textContent = "Photos";
  $("figures").hidden = report.columns.length === 0;
  const fields = [{ field: "name", heading: "Image" }, ...report.columns];
  const headings = fields.map(({ field, heading }) => {
    const button = make("button", { type: "button", textContent: heading });
    const cell = make("th", { scope: "col" }, button);
    button.addEventListener("click", () => sortBy(field, cell));
    return cell;
  });
  $("scores").tHead.append(make("tr", {}, ...headings));
  const plain = report.columns.map(({ heading }) => make("th", { scope: "col", textContent: heading }));
  $("figures").tHead.append(make("tr", {}, make("td"), ...plain));
  report.images.forEach((image, index) => {
    const name = hasPictures(index) ? make("button", { type: "button", textContent: image.name }) : image.name;
    const row = make("tr", {}, make("th", { scope: "row" }, name), ...cellsOf(image.scores));
    if (hasPictures(index)) row.addEventListener("click", () => choose(index, true));
    else row.title = "too large to be shown here";
    $("scores").tBodies[0].append(row);
    image.row = row;
  });
  for (const [name, scores] of Object.entries(report.means)) {
    const heading = make("th", { scope: "row", textContent: MEANS[name] });
    $("scores").tFoot.append(make("tr", {}, heading, ...cellsOf(scores, name === "gain")));
  }
}

function sortBy(field, cell) {
  const isDescending = cell.ariaSort === "ascending";
  const names = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    const [x, y] = [report.images[a], report.images[b]];
    if (field === "name") return names.compare(x.name, y.name);
    const [p, q] = [number(x.scores[field]), number(y.scores[field])];
    return p === q ? 0 : p - q; // two infinities have no difference
  };
  order.sort((a, b) => (isDescending ? compare(b, a) : compare(a, b)));
  for (const other of cell.parentElement.children) other.ariaSort = null;
  cell.ariaSort = isDescending ? "descending" : "ascending";
  $("scores").tBodies[0].append(...order.map((index) => report.images[index].row));
  showNeighbours();
}

// -------------------------------------------------------------------------------------------- viewer

function neighbour(by) {
  const shown = order.filter(hasPictures);
  return shown[shown.indexOf(current) + by];
}

function showNeighbours() {
  $("previous").disabled = neighbour(-1) === undefined;
  $("next").disabled = neighbour(1) === undefined;
}

async function choose(index, isFromTable = false) {
  const image = report.images[index];
  report.images[current].row.classList.remove("chosen");
  report.images[current].row.querySelector("button").ariaCurrent = null;
  image.row.classList.add("chosen");
  image.row.querySelector("button").ariaCurrent = "true";
  current = index;
  showNeighbours();
  $("name").textContent = image.name;
  $("figures").tBodies[0].replaceChildren(
    ...[[LABELS.sr, image.scores], ["Bicubic", image.bicubic]]
      .filter(([, scores]) => scores)
      .map(([label, scores]) => make("tr", {}, make("th", { scope: "row", textContent: label }), ...cellsOf(scores))),
  );
  for (const kind of kinds) {
    pictures[kind].src = image.images[kind];
    crops[kind].src = image.crops[kind] ?? image.images[kind];
  }
  $("lossy").hidden = !(kinds[0] in image.crops);
  // Small pictures are enlarged, but no more than twice, and all of a picture stays on the screen.
  const width = `min(100%, ${2 * image.width}px, ${(80 * image.width) / image.height}vh)`;
  $("stage").style.aspectRatio = `${image.width} / ${image.height}`;
  $("stage").style.width = $("split").parentElement.style.width = width;
  showSides();
  moveRegion(image.worst.x, image.worst.y);
  if (isFromTable && matchMedia("(max-width: 1079px)").matches) $("viewer").scrollIntoView();
  await Promise.allSettled([...Object.values(pictures), ...Object.values(crops)].map((each) => each.decode()));
  if (current === index) drawZooms();
}

function showSides() {
  for (const side of ["left", "right"]) {
    const kind = $(side).value;
    $(`${side}-image`).src = report.images[current].images[kind];
    $(`${side}-image`).alt = `${report.images[current].name}, ${LABELS[kind]}`;
    $(`${side}-badge`).textContent = LABELS[kind];
  }
  showSplit();
}

function showSplit() {
  const split = $("split").value;
  $("stage").style.setProperty("--split", `${split}%`);
  $("split").ariaValueText = `${split} % ${LABELS[$("left").value]}, ${100 - split} % ${LABELS[$("right").value]}`;
}

// ---------------------------------------------------------------------------------------------- zoom

function moveRegion(x, y) {
  const { width, height, worst } = report.images[current];
  const within = (value, side) => Math.min(Math.max(Math.round(value), 0), side - worst.size);
  region = { x: within(x, width), y: within(y, height), size: worst.size };
  const style = $("region").style;
  style.left = `${(100 * region.x) / width}%`;
  style.top = `${(100 * region.y) / height}%`;
  style.width = `${(100 * region.size) / width}%`;
  style.height = `${(100 * region.size) / height}%`;
  const isWorst = isAtWorst();
  const size = `${region.size} × ${region.size}`;
  $("position").textContent = `${size} at x ${region.x}, y ${region.y}${isWorst ? ` (${report.region.name})` : ""}`;
  $("worst").disabled = isWorst;
  drawZooms();
}

function isAtWorst() {
  const { worst } = report.images[current];
  return region.x === worst.x && region.y === worst.y;
}

function drawZooms() {
  const { crops: exact } = report.images[current];
  const { x, y, size } = region;
  for (const kind of kinds) {
    const canvas = $(`zoom-${kind}`);
    canvas.width = canvas.height = size; // which also clears it
    const isExact = isAtWorst() && kind in exact;
    const source = isExact ? crops[kind] : pictures[kind];
    if (!source.complete) continue;
    canvas.getContext("2d").drawImage(source, isExact ? 0 : x, isExact ? 0 : y, size, size, 0, 0, size, size);
  }
}

function centreRegionAt(event) {
  const box = $("stage").getBoundingClientRect();
  const { width, height } = report.images[current];
  const x = ((event.clientX - box.left) / box.width) * width;
  const y = ((event.clientY - box.top) / box.height) * height;
  moveRegion(x - region.size / 2, y - region.size / 2);
}

// -------------------------------------------------------------------------------------------- events

function listen() {
  const stage = $("stage");
  const handle = $("handle");
  stage.addEventListener("click", (event) => event.target !== handle && centreRegionAt(event));
  stage.addEventListener("pointermove", (event) => {
    // Fingers scroll the page; only a mouse or a pen drags the region.
    if (event.buttons === 1 && event.pointerType !== "touch" && event.target !== handle) centreRegionAt(event);
  });
  stage.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [x, y] = moves[event.key].map((sign) => sign * (event.shiftKey ? 1 : STEP));
    moveRegion(region.x + x, region.y + y);
  });
  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = stage.getBoundingClientRect();
    $("split").value = (100 * (event.clientX - box.left)) / box.width;
    showSplit();
  });
  $("split").addEventListener("input", showSplit);
  $("left").addEventListener("change", showSides);
  $("right").addEventListener("change", showSides);
  $("previous").addEventListener("click", () => choose(neighbour(-1)));
  $("next").addEventListener("click", () => choose(neighbour(1)));
  $("worst").addEventListener("click", () => {
    const { worst } = report.images[current];
    $("stage").focus({ preventScroll: true }); // the button is about to be disabled
    moveRegion(worst.x, worst.y);
  });
}

function start() {
  showSummary();
  showTable();
  $("viewer").hidden = kinds.length === 0;
  if ($("viewer").hidden) return;
  for (const kind of kinds) {
    for (const side of ["left", "right"]) $(side).append(make("option", { value: kind, textContent: LABELS[kind] }));
    const canvas = make("canvas", { id: `zoom-${kind}`, role: "img", ariaLabel: `Zoom, ${LABELS[kind]}` });
    $("zooms").append(make("figure", {}, canvas, make("figcaption", { textContent: LABELS[kind] })));
  }
  $("worst").textContent = `Back to the ${report.region.name} region`;
  $("worst-region").textContent = `The ${report.region.name} region is where ${report.region.meaning}.`;
  $("left").value = kinds.includes("bicubic") ? "bicubic" : "sr";
  $("right").value = kinds.includes("bicubic") ? "sr" : "hr";
  listen();
  choose(current);
}

start();

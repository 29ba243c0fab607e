"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg", BAR = 300, THICK = 12, PAD = 4, FONT = "10.5px system-ui, sans-serif";
const number = new Intl.NumberFormat("en");
const pen = document.createElement("canvas").getContext("2d");
pen.font = FONT;

function element(name, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function html(name, parent, text = null, className = null) {
  const node = document.createElement(name);
  if (text !== null) node.textContent = text;
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
}

const percent = (a, b) => (a ? (100 * (b - a) / a).toFixed(1) + " %" : "");
const short = n => n >= 1e9 ? (n / 1e9).toFixed(2) + " G" : n >= 1e6 ? (n / 1e6).toFixed(2) + " M" : number.format(n);

// --- totals

const NAMES = { parameters: "parameters", macs: "multiply-accumulates", bytes: "bytes of weights", layers: "layers" };
for (const key of Object.keys(NAMES)) {
  const [a, b] = data.totals[key];
  const card = html("div", document.getElementById("totals"));
  html("span", card, NAMES[key]);
  const line = html("b", card, a === b ? short(a) : `${short(a)} \u2192 ${short(b)}`);
  if (a !== b) html("em", line, percent(a, b));
}

// --- graphs: laid out by dagre, drawn as SVG

const widths = data.before.boxes.concat(data.after.boxes).filter(box => box.layers[0].weights.length).map(box => box.width);
const scale = BAR / Math.max(1, ...widths);
const barOf = box => Math.min(BAR, Math.max(2, box.width * scale));
const lostOf = box => box.lost.reduce((sum, [from, to]) => sum + to - from, 0);
const nameOf = box => box.layers[0].path + (box.layers.length > 1 ? ` +${box.layers.length - 1}` : "");

function layOut(graph, sizes) {
  const plan = new dagre.graphlib.Graph();
  plan.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 20, marginx: 16, marginy: 16 });
  plan.setDefaultEdgeLabel(() => ({}));
  for (const box of graph.boxes) {
    const label = pen.measureText(`${nameOf(box)}  ${box.width} - ${lostOf(box)}`).width + 14;
    plan.setNode(box.id, { width: Math.max(label, sizes(box)) + 2 * PAD, height: THICK + 16 + 2 * PAD });
  }
  for (const [a, b] of graph.lines) plan.setEdge(a, b);
  dagre.layout(plan);
  return plan;
}

function draw(svg, graph, plan, kind) {
  const top = element("g", {}, svg);
  const sides = plan.nodes().map(id => plan.node(id)).flatMap(node => [node.x - node.width / 2, node.x + node.width / 2])
    .concat(plan.edges().flatMap(edge => plan.edge(edge).points.map(point => point.x)));
  const left = Math.min(...sides) - 8, right = Math.max(...sides) + 8;  // edges may run outside of the width that dagre reports
  svg.dataset.width = right - left;
  svg.dataset.height = plan.graph().height;
  svg.setAttribute("viewBox", `${left} 0 ${right - left} ${plan.graph().height}`);
  for (const edge of plan.edges()) {
    const points = plan.edge(edge).points.map(p => `${p.x.toFixed(1)},${p.y.toFixed(1)}`);
    element("path", { class: "edge", d: "M" + points.join("L") }, top);
  }
  for (const box of graph.boxes) {
    const at = plan.node(box.id), bar = barOf(box), start = at.x - bar / 2, y = at.y - at.height / 2 + PAD;
    const group = element("g", { class: `box ${box.marked ? kind : ""}`, "data-id": box.id }, top);
    element("rect", { class: "back", x: at.x - at.width / 2, y: y - PAD, width: at.width, height: at.height, rx: 4 }, group);
    element("rect", { class: "bar", x: start, y, width: bar, height: THICK, rx: 1.5 }, group);
    const cutWidth = box.marked ? 0 : bar * lostOf(box) / box.width;
    if (cutWidth) element("rect", { class: "cut", x: start + bar - cutWidth, y, width: cutWidth, height: THICK, rx: 1.5 }, group);
    const text = element("text", { x: at.x, y: y + THICK + 11, "text-anchor": "middle" }, group, nameOf(box) + " ");
    element("tspan", { class: "count" }, text, lostOf(box) ? `${box.width} \u2212 ${lostOf(box)}` : box.width);
    group.addEventListener("mousemove", event => tip(event, box));
    group.addEventListener("mouseleave", () => { document.getElementById("tip").hidden = true; });
  }
}

function tip(event, box) {
  const tipBox = document.getElementById("tip");
  tipBox.replaceChildren();
  html("h3", tipBox, box.layers[0].path);
  if (box.lost.length) {
    html("div", tipBox, `${lostOf(box)} of ${box.width} channels are deleted; their positions are coloured:`, "lostpos");
    const strip = element("svg", { width: 480, height: 14, viewBox: `0 0 ${box.width} 14`, preserveAspectRatio: "none" }, tipBox);
    element("rect", { class: "bar", width: box.width, height: 14 }, strip);
    for (const [from, to] of box.lost) element("rect", { class: "cut", x: from, width: to - from, height: 14 }, strip);
  }
  if (box.inner) html("div", tipBox, `deleted: ${box.inner}`, "lostpos");
  const table = html("table", tipBox);
  for (const layer of box.layers) {
    const row = html("tr", table);
    html("td", row, layer.path.split("/").pop());
    html("td", row, layer.class);
    html("td", row, layer.shape);
    html("td", row, layer.weights.join(", "));
    html("td", row, layer.parameters ? `${number.format(layer.parameters)} parameters` : "");
    html("td", row, layer.macs ? `${short(layer.macs)} MACs` : "");
  }
  tipBox.hidden = false;
  const { offsetWidth: w, offsetHeight: h } = tipBox;
  tipBox.style.left = Math.min(event.clientX + 16, innerWidth - w - 8) + "px";
  tipBox.style.top = Math.min(event.clientY + 16, innerHeight - h - 8) + "px";
}

const same = JSON.stringify(data.before.boxes.map(box => box.id)) === JSON.stringify(data.after.boxes.map(box => box.id))
  && JSON.stringify(data.before.lines) === JSON.stringify(data.after.lines);
const panes = [...document.querySelectorAll(".pane")], svgs = panes.map(pane => pane.firstElementChild);
const first = layOut(data.before, barOf);
draw(svgs[0], data.before, first, "gone");
draw(svgs[1], data.after, same ? first : layOut(data.after, barOf), "come");

const zoom = document.getElementById("zoom");
function applyZoom() {
  for (const svg of svgs) {
    svg.setAttribute("width", svg.dataset.width * zoom.value);
    svg.setAttribute("height", svg.dataset.height * zoom.value);
  }
}
zoom.addEventListener("input", applyZoom);
zoom.value = Math.max(0.45, Math.min(1, (panes[0].clientWidth - 20) / Math.max(...svgs.map(svg => svg.dataset.width))));
applyZoom();
for (const pane of panes) pane.scrollLeft = (pane.scrollWidth - pane.clientWidth) / 2;
if (same) {
  for (const [source, target] of [[0, 1], [1, 0]]) {
    panes[source].addEventListener("scroll", () => {
      panes[target].scrollTop = panes[source].scrollTop;
      panes[target].scrollLeft = panes[source].scrollLeft;
    });
  }
}

function find(path) {
  for (const group of document.querySelectorAll(".box.found")) group.classList.remove("found");
  for (const [svg, graph] of [[svgs[0], data.before], [svgs[1], data.after]]) {
    const wanted = svg === svgs[1] ? data.became[path] || path : path;
    const box = graph.boxes.find(box => box.layers.some(layer => layer.path === wanted));
    const group = box && svg.querySelector(`[data-id="${CSS.escape(box.id)}"]`);
    if (group) { group.classList.add("found"); group.scrollIntoView({ block: "center", inline: "center" }); }
  }
}

// --- cost by layer

function chart(figure) {
  const svg = document.getElementById("chart"), rows = data.rows.filter(row => (row[figure][0] || 0) + (row[figure][1] || 0));
  const wide = svg.clientWidth || 1200, tall = 170, most = Math.max(1, ...rows.flatMap(row => row[figure]));
  const step = Math.min(48, (wide - 20) / Math.max(1, rows.length)), height = n => (tall - 30) * (n || 0) / most;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
  element("text", { x: 10, y: 14, class: "count" }, svg, `maximum ${short(most)}`);
  rows.forEach((row, i) => {
    const group = element("g", {}, svg), x = 10 + i * step, w = Math.max(0.6, step * 0.82);
    const [a, b] = row[figure];
    element("rect", { class: "old", x, y: tall - 8 - height(a), width: w, height: height(a) }, group);
    element("rect", { class: "new", x: x + w * 0.15, y: tall - 8 - height(b), width: w * 0.7, height: height(b) }, group);
    element("title", {}, group, `${row.path}: ${number.format(a || 0)} \u2192 ${number.format(b || 0)}`);
  });
}
for (const button of document.querySelectorAll(".choice button")) {
  button.addEventListener("click", () => {
    document.querySelector(".choice .on").classList.remove("on");
    button.classList.add("on");
    chart(button.dataset.figure);
  });
}
chart("macs");

// --- the table

const COLUMNS = [["path", "layer"], ["class", "class"], ["channels", "channels"], ["lost", "deleted"], ["parameters", "parameters"], ["macs", "MACs"]];
const body = document.querySelector("#layers tbody"), head = html("tr", document.querySelector("#layers thead"));
const most = Object.fromEntries(["parameters", "macs"].map(key => [key, Math.max(1, ...data.rows.flatMap(row => row[key]))]));

function cell(row, key) {
  const value = row[key], node = html("td", null, null, Array.isArray(value) ? "n" : null);
  if (!Array.isArray(value)) {
    node.textContent = value || "";
    if (key === "path" && row.was) html("span", node, ` was ${row.was}`, "was");
    if (key === "lost") node.className = "lostpos";
    return node;
  }
  const [a, b] = value;
  if (a !== b && a !== null && b !== null) html("span", node, `${number.format(a)} \u2192 `, "was");
  html("span", node, (b ?? a) === null || (key in most && !(a || b)) ? "" : number.format(b ?? a));
  if (key in most && (a || b)) {
    const meter = html("div", node, null, "meter");
    html("i", meter, null, "pale").style.width = `${100 * (a || 0) / most[key]}%`;
    html("i", meter, null, "kept").style.width = `${100 * (b || 0) / most[key]}%`;
  }
  return node;
}

const rank = (row, key) => Array.isArray(row[key]) ? row[key][0] ?? row[key][1] ?? -1 : row[key] || "";
function fill(rows) {
  body.replaceChildren(...rows.map(row => {
    const node = document.createElement("tr");
    node.className = row.state;
    node.append(...COLUMNS.map(([key]) => cell(row, key)));
    node.addEventListener("click", () => find(row.was || row.path));
    return node;
  }));
}
COLUMNS.forEach(([key, name]) => {
  const cell = html("th", head, name, Array.isArray(data.rows[0]?.[key]) ? "n" : null);
  cell.addEventListener("click", () => {
    const down = cell.dataset.order !== "down";
    for (const other of head.children) delete other.dataset.order;
    cell.dataset.order = down ? "down" : "up";
    const sign = down ? -1 : 1;
    fill([...data.rows].sort((a, b) => {
      const [x, y] = [rank(a, key), rank(b, key)];
      return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
    }));
  });
});
fill(data.rows);
document.body.dataset.ready = "yes";

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = family => css("--" + family) || css("--other");
  // Plotly reads a little HTML in texts: names of a model must not become any
  const safe = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const units = [[1, "s"], [1e-3, "ms"], [1e-6, "us"], [1e-9, "ns"]];
  const unitOf = most => units.find(([size]) => most >= 2 * size) || units[3];
  const [unit, unitName] = unitOf(data.seconds);
  const time = s => s === 0 ? "0 s" : (u => (s / u[0]).toPrecision(4) + " " + u[1])(units.find(([size]) => Math.abs(s) >= size) || units[3]);
  const size = n => (r => r ? (n / r[0]).toFixed(2) + " " + r[1] : n + " B")([[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]].find(([s]) => n >= s));
  const rate = (n, what) => (r => (n / r[0]).toPrecision(3) + " " + r[1] + what)([[1e12, "T"], [1e9, "G"], [1e6, "M"], [1, ""]].find(([s]) => n >= s) || [1, ""]);
  const config = { displaylogo: false, responsive: true, displayModeBar: false };

  const layout = extra => {
    const line = css("--line"), text = css("--text"), minor = css("--minor");
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, tickfont: { color: minor }, automargin: true };
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 8, b: 40 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: minor } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: minor, orientation: "h" },
      hoverlabel: { bgcolor: css("--card"), bordercolor: line, font: { color: text, size: 12 }, align: "left" }, ...extra,
    };
    for (const key of ["xaxis", "yaxis"]) made[key] = { ...axis, ...(extra[key] || {}), title: { font: { color: minor, size: 12 }, ...((extra[key] || {}).title || {}) } };
    return made;
  };

  // ---- the queues over time
  const timeline = () => {
    const traces = [], families = {};
    const add = (key, name, fill, row) => {
      const t = families[key] ||= { type: "bar", orientation: "h", name, marker: { color: fill, line: { width: 0.4, color: css("--card") } }, base: [], x: [], y: [], text: [], customdata: [],
        textposition: "none", hovertemplate: "%{text}<extra></extra>", width: 0.62 };
      t.base.push(row.start / unit); t.x.push((row.end - row.start) / unit); t.y.push(row.queue); t.text.push(row.text); t.customdata.push(row.cluster);
    };
    for (const c of data.clusters) {
      // hatched, so that waiting is told from work without colours
      if (c.waited > 0) add("~wait", "waiting for reads", css("--bad"), { start: c.start - c.waited, end: c.start, queue: "cpu", text: "waits " + time(c.waited) + " for its weights<br>" + safe(c.name), cluster: c.cluster });
      add(c.family, safe(c.family), color(c.family), { start: c.start, end: c.end, queue: "cpu", text: safe(c.name) + "<br>" + safe(c.ops) + "<br>" + safe(c.kernel) + ", " + time(c.end - c.start), cluster: c.cluster });
    }
    for (const r of data.reads) add("~read", "reads from storage", css("--storage"), { start: r.start, end: r.end, queue: "io", text: "read " + safe(r.label) + "<br>" + size(r.bytes) + ", " + time(r.end - r.start) + ", exposed " + time(r.exposed), cluster: r.cluster });
    if (families["~wait"]) families["~wait"].marker.pattern = { shape: "/", fgcolor: css("--bad"), bgcolor: css("--card"), size: 6, solidity: 0.45 };
    traces.push(...Object.keys(families).sort().map(key => families[key]));
    const queues = data.reads.length ? ["io", "cpu"] : ["cpu"];
    const shapes = [0, data.seconds].map(x => ({ type: "line", x0: x / unit, x1: x / unit, yref: "paper", y0: 0, y1: 1, line: { color: css("--minor"), width: 1, dash: "dot" } }));
    const first = Math.min(0, ...data.reads.map(r => r.start)) / unit, last = data.seconds / unit;
    Plotly.react("timeline-chart", traces, layout({ barmode: "overlay", shapes, dragmode: "zoom", hovermode: "closest", showlegend: true,
      xaxis: { title: { text: "time of one run (" + unitName + ")" }, range: [first - (last - first) * 0.008, last * 1.008], zeroline: false },
      yaxis: { fixedrange: true, categoryorder: "array", categoryarray: queues, showgrid: false, range: [-0.5, queues.length - 0.5] } }), config);
  };

  // ---- memory over time, of the first tier that devices address
  const memory = () => {
    const tier = data.tiers.find(t => t.kind === "memory" && t.used > 0);
    if (!tier) return;
    const scale = tier.used >= 2 ** 30 ? [2 ** 30, "GiB"] : tier.used >= 2 ** 20 ? [2 ** 20, "MiB"] : [2 ** 10, "KiB"];
    const x = [0, ...data.clusters.map(c => c.end / unit)];
    const hold = values => [...values, values[values.length - 1] ?? 0];
    const fills = { "process floor": "--loops", weights: "--matmul", ring: "--storage", workspace: "--conv", activations: "--attention" };
    const traces = [];
    for (const name of Object.keys(fills)) {
      if (!(name in tier.parts)) continue;
      const values = name === "activations" ? hold(tier.live) : x.map(() => tier.parts[name]);
      traces.push({ type: "scatter", mode: "lines", stackgroup: "held", name: name === "activations" ? "activations in use" : name, x, y: values.map(v => v / scale[0]), text: values.map(v => size(v)),
        line: { width: 0.5, color: css(fills[name]), shape: "hv" }, fillcolor: css(fills[name]), hovertemplate: "%{text}" });
    }
    const level = (value, name, dash, paint) => traces.push({ type: "scatter", mode: "lines", name, x: [x[0], x[x.length - 1]], y: [value / scale[0], value / scale[0]], text: [size(value), size(value)],
      line: { color: paint, width: 1.6, dash }, hovertemplate: "%{text}" });
    level(tier.used, "reserved (peak)", "dot", css("--text"));
    const near = tier.budget <= 2.5 * tier.used;
    if (near) level(tier.budget, "budget", "dash", css("--bad"));
    Plotly.react("memory-chart", traces, layout({ hovermode: "x unified", xaxis: { title: { text: "time of one run (" + unitName + ")" }, zeroline: false, range: [0, data.seconds / unit] },
      yaxis: { title: { text: tier.name + " (" + scale[1] + ")" }, range: [0, 1.06 * Math.max(tier.used, near ? tier.budget : 0) / scale[0]] } }), config);
  };

  // ---- roofline
  const roofline = () => {
    const points = data.clusters.filter(c => c.flops > 0 && c.bytes > 0 && c.end > c.start), roofs = data.roofs[0];
    if (!points.length || !roofs) { document.getElementById("roofline-chart").textContent = "No cluster computes anything that counts as arithmetic."; return; }
    const peak = Math.max(...Object.values(roofs.flops)), most = Math.max(...data.clusters.map(c => c.end - c.start));
    const intensity = points.map(c => c.flops / c.bytes), speed = points.map(c => c.flops / (c.end - c.start));
    const x0 = Math.min(0.05, ...intensity) / 2, x1 = Math.max(200, ...intensity) * 2;
    const traces = roofs.levels.map((level, k) => {
      const knee = Math.min(Math.max(peak / level.bandwidth, x0), x1);
      return { type: "scatter", mode: "lines", x: [x0, knee], y: [x0 * level.bandwidth, knee * level.bandwidth], showlegend: false, hoverinfo: "skip", line: { color: css("--minor"), width: level.name === "ram" ? 1.8 : 1, dash: level.name === "ram" ? "solid" : "dot" } };
    });
    traces.push({ type: "scatter", mode: "lines", x: [x0, x1], y: [peak, peak], showlegend: false, hoverinfo: "skip", line: { color: css("--minor"), width: 1.8 } });
    for (const family of [...new Set(points.map(c => c.family))].sort()) {
      const own = points.map((c, i) => i).filter(i => points[i].family === family);
      traces.push({ type: "scatter", mode: "markers", name: safe(family), x: own.map(i => intensity[i]), y: own.map(i => speed[i]), customdata: own.map(i => points[i].cluster),
        text: own.map(i => safe(points[i].name) + "<br>" + safe(points[i].ops) + "<br>" + rate(speed[i], "FLOP/s") + " at " + intensity[i].toPrecision(3) + " FLOP/B<br>" + time(points[i].end - points[i].start)),
        marker: { color: color(family), opacity: 0.75, size: own.map(i => 7 + 15 * Math.sqrt((points[i].end - points[i].start) / most)), line: { color: css("--card"), width: 1 } }, hovertemplate: "%{text}<extra></extra>" });
    }
    const bottom = Math.min(...speed, x0 * Math.min(...roofs.levels.map(l => l.bandwidth)) * 3) / 2, top = peak * 2.6;
    const log = Math.log10, minor = css("--minor");
    const label = (x, y, text, extra) => ({ x: log(x), y: log(y), text, showarrow: false, font: { size: 11, color: minor }, ...extra });
    const annotations = [label(x1, peak, rate(peak, "FLOP/s"), { xanchor: "right", yanchor: "bottom" })];
    roofs.levels.forEach((level, k) => {
      const y = Math.max(bottom * 1.6, level.bandwidth * x0 * 1.25), x = y / level.bandwidth;
      if (x < x1 && y < peak) annotations.push(label(x, y, safe(level.name) + " " + rate(level.bandwidth, "B/s"), { xanchor: "left", yanchor: "middle", xshift: 8, bgcolor: css("--card") }));
    });
    Plotly.react("roofline-chart", traces, layout({ annotations, hovermode: "closest", xaxis: { type: "log", title: { text: "arithmetic intensity (FLOP per byte)" }, range: [log(x0), log(x1)], dtick: 1, zeroline: false },
      yaxis: { type: "log", title: { text: "FLOP/s" }, range: [log(bottom), log(top)], dtick: 1, exponentformat: "SI", zeroline: false } }), config);
  };

  // ---- rows, boxes and bars of one cluster light up together
  const rows = new Map([...document.querySelectorAll("#cluster-table tr.row")].map(r => [r.dataset.cluster, r]));
  const boxes = new Map([...document.querySelectorAll("#graph-svg .box")].map(b => [b.dataset.cluster, b]));
  const byName = new Map(data.clusters.map(c => [c.cluster, c]));
  const detail = (row, cluster) => {
    const next = row.nextElementSibling;
    if (next && next.classList.contains("more")) { next.remove(); return; }
    const c = byName.get(cluster), more = row.parentNode.insertRow(row.sectionRowIndex + 1), cell = more.insertCell();
    more.className = "more"; cell.colSpan = row.cells.length;
    const list = document.createElement("dl");
    const item = (name, text) => { const t = document.createElement("dt"), d = document.createElement("dd"); t.textContent = name; d.textContent = text; list.append(t, d); };
    item("why", c.why); item("computes", c.result); item("nodes", c.nodes);
    item("runs", time(c.start) + " to " + time(c.end) + (c.waited > 0 ? ", after waiting " + time(c.waited) + " for reads" : ""));
    item("work", rate(c.flops, "FLOP") + ", " + size(Math.round(c.bytes)) + " moved, workspace " + size(c.workspace));
    for (const w of c.weights) item(w.label, size(w.bytes) + " " + w.how + " in " + w.tier + " as " + w.format + ": " + w.why);
    cell.append(list);
  };
  const inside = (view, element) => { const a = view.getBoundingClientRect(), b = element.getBoundingClientRect();
    view.scrollTo({ top: view.scrollTop + b.top - a.top - view.clientHeight / 2, left: view.scrollLeft + b.left - a.left - (view.clientWidth - b.width) / 2, behavior: "smooth" }); };
  const mark = (cluster, from) => {
    document.querySelectorAll(".marked").forEach(e => e.classList.remove("marked"));
    const row = rows.get(cluster), box = boxes.get(cluster);
    if (row) row.classList.add("marked");
    if (box) box.classList.add("marked");
    document.querySelectorAll("#graph-svg .edge").forEach(e => { if (e.dataset.from === cluster || e.dataset.to === cluster) e.classList.add("marked"); });
    if (row && from !== "row") { if (row.hidden) { input.value = ""; filter(); } inside(row.closest(".scroll"), row); if (from === "chart") document.getElementById("clusters").scrollIntoView(); }
    if (box && from !== "box") inside(document.getElementById("graph-view"), box);
  };
  rows.forEach((row, cluster) => row.addEventListener("click", () => { mark(cluster, "row"); detail(row, cluster); }));
  boxes.forEach((box, cluster) => { box.addEventListener("click", () => mark(cluster, "box")); box.addEventListener("keydown", e => { if (e.key === "Enter") mark(cluster, "box"); }); });

  // ---- sorting and filtering
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const sort = () => {
      const body = head.closest("table").tBodies[0], at = head.cellIndex, now = head.getAttribute("aria-sort"), up = now ? now === "descending" : head.dataset.sort !== "n";
      body.querySelectorAll("tr.more").forEach(r => r.remove());
      const key = row => { const cell = row.cells[at]; return head.dataset.sort === "n" ? Number(cell.dataset.v ?? NaN) : cell.textContent.toLowerCase(); };
      const order = (a, b) => { const p = key(a), q = key(b); if (p !== p) return 1; if (q !== q) return -1; return (p < q ? -1 : p > q ? 1 : 0) * (up ? 1 : -1); };
      [...body.rows].sort(order).forEach(r => body.append(r));
      head.closest("tr").querySelectorAll("th").forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    };
    head.tabIndex = 0; head.addEventListener("click", sort); head.addEventListener("keydown", e => { if (e.key === "Enter") sort(); });
  }
  const input = document.getElementById("cluster-filter");
  const filter = () => {
    document.querySelectorAll("tr.more").forEach(r => r.remove());
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach(row => { const text = row.dataset.text; row.hidden = !words.every(w => text.includes(w)); if (!row.hidden) shown++; });
    document.getElementById("cluster-count").textContent = shown + " of " + rows.size;
  };
  input.addEventListener("input", filter); filter();

  // ---- the graph's size
  const svg = document.getElementById("graph-svg"), view = document.getElementById("graph-view");
  if (svg) {
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    let zoom = 1;
    const set = z => { zoom = Math.min(Math.max(z, 0.05), 3); svg.setAttribute("width", width * zoom); svg.setAttribute("height", height * zoom); };
    const fit = () => set(Math.min(1, (view.clientWidth - 20) / width));
    const steps = { in: () => set(zoom * 1.25), out: () => set(zoom / 1.25), one: () => set(1), fit };
    document.querySelectorAll("[data-zoom]").forEach(b => b.addEventListener("click", () => steps[b.dataset.zoom]()));
    fit();
  }

  const charts = () => { timeline(); memory(); roofline(); };
  charts();
  for (const id of ["timeline-chart", "roofline-chart"]) { const chart = document.getElementById(id); if (chart.on) chart.on("plotly_click", e => { const found = e.points[0].customdata; if (found) mark(found, "chart"); }); }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
  document.documentElement.dataset.ready = "yes";
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // ---- words

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const familyColor = (family) =>
    css("--" + (family === "winograd" ? "conv" : family.split("_")[0])) || css("--other");
  // Plotly reads a little HTML in texts: names of a model must not become any
  const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const TIMES = [[1, "s"], [1e-3, "ms"], [1e-6, "us"], [1e-9, "ns"]];
  const SIZES = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
  const RATES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const unitOf = (units, value) => units.find(([size]) => Math.abs(value) >= size) || units[units.length - 1];
  const time = (seconds) => {
    const [size, name] = unitOf(TIMES, seconds);
    return seconds === 0 ? "0 s" : (seconds / size).toPrecision(4) + " " + name;
  };
  const size = (bytes) => {
    const [unit, name] = unitOf(SIZES, bytes);
    return (bytes / unit).toFixed(unit > 1 ? 2 : 0) + " " + name;
  };
  const rate = (value, what) => {
    const [unit, prefix] = unitOf(RATES, value);
    return (value / unit).toPrecision(3) + " " + prefix + what;
  };
  const [scale, scaleName] = unitOf(TIMES, data.seconds / 2);

  // ---- charts

  const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

  const layout = (own) => {
    const line = css("--line"), text = css("--text"), minor = css("--minor");
    const axis = (given) => ({
      gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line,
      tickfont: { color: minor }, automargin: true, zeroline: false, ...given,
      title: { text: given.name || "", font: { color: minor, size: 12 } },
    });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 8, b: 40 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: text },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: minor } },
      hoverlabel: { bgcolor: css("--card"), bordercolor: line, font: { color: text, size: 12 }, align: "left" },
      ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
    };
  };

  const timeAxis = (first, last) => ({ name: "time of one run (" + scaleName + ")", range: [first / scale, last / scale] });

  /** The queues: a bar for each call and read, and hatched ones where calls wait, so that waiting is told from work without colours. */
  const drawTimeline = () => {
    const traces = new Map();
    const add = (key, name, color, queue, row, text) => {
      if (!traces.has(key)) {
        traces.set(key, {
          type: "bar", orientation: "h", name, width: 0.62, textposition: "none", hovertemplate: "%{text}<extra></extra>",
          marker: { color, line: { width: 0.4, color: css("--card") } }, base: [], x: [], y: [], text: [], customdata: [],
        });
      }
      const trace = traces.get(key);
      trace.base.push(row.start / scale);
      trace.x.push((row.end - row.start) / scale);
      trace.y.push(queue);
      trace.text.push(text);
      trace.customdata.push(row.cluster);
      return trace;
    };
    for (const c of data.clusters) {
      const name = safe(c.name);
      if (c.waited > 0) {
        const row = { start: c.start - c.waited, end: c.start, cluster: c.cluster };
        const text = "waits " + time(c.waited) + " for its weights<br>" + name;
        const trace = add("~wait", "waiting for reads", css("--bad"), "cpu", row, text);
        trace.marker.pattern = { shape: "/", fgcolor: css("--bad"), bgcolor: css("--card"), size: 6, solidity: 0.45 };
      }
      const text = name + "<br>" + safe(c.ops) + "<br>" + safe(c.kernel) + ", " + time(c.end - c.start);
      add(c.family, safe(c.family), familyColor(c.family), "cpu", c, text);
    }
    for (const r of data.reads) {
      const took = size(r.bytes) + ", " + time(r.end - r.start) + ", exposed " + time(r.exposed);
      add("~read", "reads from storage", css("--storage"), "io", r, "read " + safe(r.label) + "<br>" + took);
    }
    const queues = data.reads.length ? ["io", "cpu"] : ["cpu"];
    const first = Math.min(0, ...data.reads.map((r) => r.start));
    const margin = (data.seconds - first) * 0.008;
    const ends = [0, data.seconds].map((at) => ({
      type: "line", x0: at / scale, x1: at / scale, yref: "paper", y0: 0, y1: 1,
      line: { color: css("--minor"), width: 1, dash: "dot" },
    }));
    Plotly.react("timeline-chart", [...traces.keys()].sort().map((key) => traces.get(key)), layout({
      barmode: "overlay", shapes: ends, dragmode: "zoom", hovermode: "closest", showlegend: true,
      xaxis: timeAxis(first - margin, data.seconds + margin),
      yaxis: {
        fixedrange: true, categoryorder: "array", categoryarray: queues, showgrid: false, range: [-0.5, queues.length - 0.5],
      },
    }), CONFIG);
  };

  const PARTS = {
    "process floor": "--loops", weights: "--matmul", mapped: "--rows", ring: "--storage", workspace: "--conv",
    activations: "--attention",
  };

  /** Memory of the first tier that devices address, over one run: what is constant below, activations in use on top. */
  const drawMemory = () => {
    const tier = data.tiers.find((t) => t.kind === "memory" && t.used > 0);
    if (!tier) return;
    const [unit, unitName] = unitOf(SIZES, tier.used);
    const x = [0, ...data.clusters.map((c) => c.end / scale)];
    const traces = [];
    for (const [part, variable] of Object.entries(PARTS)) {
      if (!(part in tier.parts)) continue;
      const live = part === "activations";
      const values = live ? [...tier.live, tier.live[tier.live.length - 1] || 0] : x.map(() => tier.parts[part]);
      traces.push({
        type: "scatter", mode: "lines", stackgroup: "held", name: live ? "activations in use" : part, x,
        y: values.map((v) => v / unit), text: values.map(size), hovertemplate: "%{text}",
        line: { width: 0.5, color: css(variable), shape: "hv" }, fillcolor: css(variable),
      });
    }
    const level = (value, name, dash, color) => traces.push({
      type: "scatter", mode: "lines", name, x: [x[0], x[x.length - 1]], y: [value / unit, value / unit],
      text: [size(value), size(value)], hovertemplate: "%{text}", line: { color, width: 1.6, dash },
    });
    level(tier.used, "reserved (peak)", "dot", css("--text"));
    const near = tier.budget <= 2.5 * tier.used; // a budget far above would leave no room for what is used
    if (near) level(tier.budget, "budget", "dash", css("--bad"));
    Plotly.react("memory-chart", traces, layout({
      hovermode: "x unified", xaxis: timeAxis(0, data.seconds),
      yaxis: {
        name: tier.name + " (" + unitName + ")", range: [0, (1.06 * Math.max(tier.used, near ? tier.budget : 0)) / unit],
      },
    }), CONFIG);
  };

  /** Speed of each cluster over its operations per byte, below the roofs of the first device. */
  const drawRoofline = () => {
    const points = data.clusters
      .filter((c) => c.flops > 0 && c.bytes > 0 && c.end > c.start)
      .map((c) => ({ ...c, seconds: c.end - c.start, x: c.flops / c.bytes, y: c.flops / (c.end - c.start) }));
    const roofs = data.roofs[0];
    if (!points.length || !roofs) {
      byId("roofline-chart").textContent = "No cluster computes anything that counts as arithmetic.";
      return;
    }
    const minor = css("--minor"), log = Math.log10;
    const peak = Math.max(...Object.values(roofs.flops)), most = Math.max(...points.map((p) => p.seconds));
    const x0 = Math.min(0.05, ...points.map((p) => p.x)) / 2, x1 = Math.max(200, ...points.map((p) => p.x)) * 2;
    const slowest = x0 * Math.min(...roofs.levels.map((l) => l.bandwidth));
    const y0 = Math.min(3 * slowest, ...points.map((p) => p.y)) / 2, y1 = peak * 2.6;
    const roof = (x, y, main) => ({
      type: "scatter", mode: "lines", x, y, showlegend: false, hoverinfo: "skip",
      line: { color: minor, width: main ? 1.8 : 1, dash: main ? "solid" : "dot" },
    });
    const label = (x, y, text, place) => ({
      x: log(x), y: log(y), text, showarrow: false, font: { size: 11, color: minor }, ...place,
    });
    const traces = [roof([x0, x1], [peak, peak], true)];
    const labels = [label(x1, peak, rate(peak, "FLOP/s"), { xanchor: "right", yanchor: "bottom" })];
    for (const { name, bandwidth } of roofs.levels) {
      const knee = Math.min(Math.max(peak / bandwidth, x0), x1);
      traces.push(roof([x0, knee], [x0 * bandwidth, knee * bandwidth], name === "ram"));
      const y = Math.max(y0 * 1.6, bandwidth * x0 * 1.25), x = y / bandwidth;
      const place = { xanchor: "left", yanchor: "middle", xshift: 8, bgcolor: css("--card") };
      if (x < x1 && y < peak) labels.push(label(x, y, safe(name) + " " + rate(bandwidth, "B/s"), place));
    }
    for (const family of [...new Set(points.map((p) => p.family))].sort()) {
      const own = points.filter((p) => p.family === family);
      const text = (p) => [
        safe(p.name), safe(p.ops), rate(p.y, "FLOP/s") + " at " + p.x.toPrecision(3) + " FLOP/B", time(p.seconds),
      ].join("<br>");
      traces.push({
        type: "scatter", mode: "markers", name: safe(family), x: own.map((p) => p.x), y: own.map((p) => p.y),
        customdata: own.map((p) => p.cluster), text: own.map(text), hovertemplate: "%{text}<extra></extra>",
        marker: {
          color: familyColor(family), opacity: 0.75, size: own.map((p) => 7 + 15 * Math.sqrt(p.seconds / most)),
          line: { color: css("--card"), width: 1 },
        },
      });
    }
    Plotly.react("roofline-chart", traces, layout({
      annotations: labels, hovermode: "closest",
      xaxis: { name: "arithmetic intensity (FLOP per byte)", type: "log", range: [log(x0), log(x1)], dtick: 1 },
      yaxis: { name: "FLOP/s", type: "log", range: [log(y0), log(y1)], dtick: 1, exponentformat: "SI" },
    }), CONFIG);
  };

  // ---- the row, the box and the bar of a cluster light up together

  const named = (elements) => new Map(elements.map((e) => [e.dataset.cluster, e]));
  const rows = named(all("#cluster-table tr.row")), boxes = named(all("#graph-svg .box"));
  const clusters = new Map(data.clusters.map((c) => [c.cluster, c]));
  const graphView = byId("graph-view"), input = byId("cluster-filter");

  const toggleDetails = (row, c) => {
    const next = row.nextElementSibling;
    if (next && next.classList.contains("more")) {
      next.remove();
      return;
    }
    const more = row.parentNode.insertRow(row.sectionRowIndex + 1), cell = more.insertCell();
    more.className = "more";
    cell.colSpan = row.cells.length;
    const list = document.createElement("dl");
    const item = (name, text) => {
      const term = document.createElement("dt"), what = document.createElement("dd");
      term.textContent = name;
      what.textContent = text;
      list.append(term, what);
    };
    item("why", c.why);
    item("computes", c.result);
    item("nodes", c.nodes);
    item("runs", time(c.start) + " to " + time(c.end) + (c.waited > 0 ? ", after waiting " + time(c.waited) + " for reads" : ""));
    item("work", rate(c.flops, "FLOP") + ", " + size(c.bytes) + " moved, workspace " + size(c.workspace));
    for (const w of c.weights) item(w.label, size(w.bytes) + " " + w.how + ", home " + w.tier + ", as " + w.format + ": " + w.why);
    cell.append(list);
  };

  const centre = (view, element) => {
    const outer = view.getBoundingClientRect(), inner = element.getBoundingClientRect();
    view.scrollTo({
      top: view.scrollTop + inner.top - outer.top - view.clientHeight / 2,
      left: view.scrollLeft + inner.left - outer.left - (view.clientWidth - inner.width) / 2,
      behavior: "smooth",
    });
  };

  const mark = (cluster, from) => {
    all(".marked").forEach((e) => e.classList.remove("marked"));
    const row = rows.get(cluster), box = boxes.get(cluster);
    [row, box].forEach((e) => e && e.classList.add("marked"));
    all("#graph-svg .edge")
      .filter((e) => e.dataset.from === cluster || e.dataset.to === cluster)
      .forEach((e) => e.classList.add("marked"));
    if (row && from !== "row") {
      if (row.hidden) {
        input.value = "";
        filter();
      }
      centre(row.closest(".scroll"), row);
      if (from === "chart") byId("clusters").scrollIntoView();
    }
    if (box && from !== "box") centre(graphView, box);
  };

  const onEnter = (element, action) => element.addEventListener("keydown", (e) => e.key === "Enter" && action());
  rows.forEach((row, cluster) => row.addEventListener("click", () => {
    mark(cluster, "row");
    toggleDetails(row, clusters.get(cluster));
  }));
  boxes.forEach((box, cluster) => {
    box.addEventListener("click", () => mark(cluster, "box"));
    onEnter(box, () => mark(cluster, "box"));
  });

  // ---- sorting and filtering

  const closeDetails = () => all("tr.more").forEach((row) => row.remove());

  for (const head of all("th[data-sort]")) {
    const numbers = head.dataset.sort === "n";
    const sort = () => {
      const body = head.closest("table").tBodies[0], now = head.getAttribute("aria-sort");
      const up = now ? now === "descending" : !numbers; // numbers begin with the largest
      closeDetails();
      const key = (row) => {
        const cell = row.cells[head.cellIndex];
        return numbers ? Number(cell.dataset.v ?? NaN) : cell.textContent.toLowerCase();
      };
      const order = (a, b) => {
        const p = key(a), q = key(b);
        if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q); // what has no number comes last
        return (p < q ? -1 : p > q ? 1 : 0) * (up ? 1 : -1);
      };
      [...body.rows].sort(order).forEach((row) => body.append(row));
      [...head.parentNode.cells].forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    onEnter(head, sort);
  }

  const filter = () => {
    closeDetails();
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => { row.hidden = !words.every((word) => row.dataset.text.includes(word)); });
    const shown = [...rows.values()].filter((row) => !row.hidden).length;
    byId("cluster-count").textContent = shown + " of " + rows.size;
  };
  input.addEventListener("input", filter);
  filter();

  // ---- the graph's size

  const svg = byId("graph-svg");
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  let zoom = 1;
  const setZoom = (wanted) => {
    zoom = Math.min(Math.max(wanted, 0.05), 3);
    svg.setAttribute("width", width * zoom);
    svg.setAttribute("height", height * zoom);
  };
  const fit = () => setZoom(Math.min(1, (graphView.clientWidth - 20) / width));
  const steps = { in: () => setZoom(zoom * 1.25), out: () => setZoom(zoom / 1.25), one: () => setZoom(1), fit };
  all("[data-zoom]").forEach((button) => button.addEventListener("click", () => steps[button.dataset.zoom]()));
  fit();

  // ----

  const draw = () => [drawTimeline, drawMemory, drawRoofline].forEach((chart) => chart());
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  for (const chart of [byId("timeline-chart"), byId("roofline-chart")]) {
    // a chart that had nothing to show has no events
    if (chart.on) chart.on("plotly_click", (event) => event.points[0].customdata && mark(event.points[0].customdata, "chart"));
  }
  document.documentElement.dataset.ready = "yes";
})();

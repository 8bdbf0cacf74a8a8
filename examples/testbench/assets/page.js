"use strict";
// Draws what the journal says: on the live page as it comes, in a report all of it.
(() => {
  const read = id => JSON.parse(document.getElementById(id).textContent);
  const setup = read("setup"), log = read("log"), isReport = log !== null;
  const drivers = setup.drivers;
  const $ = id => document.getElementById(id);
  const node = (tag, props = {}, ...children) => {
    const n = Object.assign(document.createElement(tag), props);
    n.append(...children);
    return n;
  };
  const css = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  // How numbers are written.
  const whole = n => Math.round(n).toLocaleString("en");
  const short = n => n >= 1e6 ? +(n / 1e6).toPrecision(3) + " M" : n >= 1e4 ? +(n / 1e3).toPrecision(3) + " k" : n >= 10 || n === 0 ? whole(n) : +n.toPrecision(2) + "";
  const millis = n => n == null ? "–" : n >= 1000 ? +(n / 1000).toPrecision(3) + " s" : n >= 1 ? +n.toPrecision(3) + " ms" : +(n * 1000).toPrecision(3) + " µs";
  const clock = s => s < 60 ? Math.floor(s) + " s" : Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0") + " min";

  // What was read from the journal.
  const samples = [], faults = [];
  let verdict = null, under = null; // the fault that is under way

  // A line of a plot: of which driver, drawn how, and its value in a sample.
  const solid = [], dashed = [7, 4], dotted = [2, 3];
  const each = make => drivers.flatMap(make);
  const line = (driver, label, dash, of) => ({ driver, label, dash, of });
  const perDriver = of => each(d => [line(d, d, solid, of)]);
  const plots = [
    { title: "Throughput", unit: "calls a second", format: short, lines: perDriver(s => s.ok) },
    {
      title: "Latency", unit: "of calls that ended in the half second", format: millis, log: true,
      lines: each(d => [line(d, d + " p50", dashed, s => s.p50 || null), line(d, d + " p99", solid, s => s.p99 || null)]),
    },
    { title: "Failed calls", unit: "a second", format: short, lines: perDriver(s => s.failed) },
    {
      title: "Connections", unit: "by state", format: whole,
      lines: each(d => [
        ...(d === "everpool" ? [line(d, d + " shared by all", solid, s => s.conns.shared)] : []),
        line(d, d + " in use", dashed, s => s.conns.used), line(d, d + " idle", dotted, s => s.conns.idle),
      ]),
    },
    { title: "Waiting callers", unit: "for a connection or for the server", format: whole, lines: perDriver(s => s.conns.waiting) },
    { title: "Connections dialed", unit: "since the start", format: short, lines: perDriver(s => s.totals.dials) },
  ];

  // Faults are marked as bands with their names, on every plot.
  const marks = {
    hooks: {
      drawAxes: [u => {
        const { ctx, bbox } = u, scale = devicePixelRatio;
        ctx.save();
        ctx.beginPath();
        ctx.rect(bbox.left, bbox.top - 16 * scale, bbox.width, bbox.height + 16 * scale);
        ctx.clip();
        ctx.font = 10.5 * scale + "px system-ui, sans-serif";
        ctx.textBaseline = "bottom";
        ctx.textAlign = "left";
        let free = 0; // where the next name has room
        for (const f of faults) {
          const from = u.valToPos(f.at, "x", true), to = u.valToPos(f.over ?? now(), "x", true);
          ctx.fillStyle = css("band");
          ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
          ctx.fillStyle = css("fault");
          ctx.fillRect(Math.round(from), bbox.top, Math.max(1, Math.round(scale)), bbox.height);
          const width = ctx.measureText(f.fault).width;
          const left = Math.min(from, bbox.left + bbox.width - width);
          if (left >= free) {
            ctx.fillText(f.fault, left, bbox.top - 2 * scale);
            free = left + width + 8 * scale;
          }
        }
        ctx.restore();
      }],
    },
  };

  const sync = uPlot.sync("testbench");

  // build makes the plot's card.
  function build(plot) {
    const legend = node("div", { className: "legend" }), place = node("div");
    plot.values = plot.lines.map(l => {
      const value = node("b", { textContent: "–" });
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("viewBox", "0 0 22 8");
      swatch.setAttribute("class", l.driver);
      swatch.innerHTML = `<line x1="0" y1="4" x2="22" y2="4" stroke="currentColor" stroke-width="2" stroke-dasharray="${l.dash.join(" ")}"/>`;
      const item = node("span", {}, swatch, l.label, value);
      legend.append(item);
      return value;
    });
    const card = node("article", { className: "card" }, node("h2", {}, plot.title + " ", node("span", { textContent: plot.unit })), legend, place);
    $("plots").append(card);
    plot.place = place;
    draw(plot);
    new ResizeObserver(() => plot.u.setSize(size(plot))).observe(card);
  }

  const size = plot => ({ width: Math.max(plot.place.clientWidth, 200), height: 210 });

  // draw makes the plot in the colours of now.
  function draw(plot) {
    plot.u?.destroy();
    const axis = { stroke: css("soft"), grid: { stroke: css("grid"), width: 1 }, ticks: { stroke: css("grid"), width: 1 }, font: "11px system-ui, sans-serif" };
    plot.u = new uPlot({
      ...size(plot),
      padding: [18, 12, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: sync.key }, y: false, points: { size: 6 } },
      scales: {
        x: { time: false, range: () => [0, Math.max(now(), 20)] },
        y: plot.log ? { distr: 3, range: (u, low, high) => low == null ? [0.1, 1000] : [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))] }
          : { range: (u, low, high) => [0, Math.max(high * 1.08, 5)] },
      },
      axes: [
        { ...axis, size: 30, space: 60, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600], values: (u, at) => at.map(s => s < 60 && now() <= 60 ? s + " s" : Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0")) },
        {
          ...axis, size: 58, space: 28, ...(plot.log && { splits: powers }),
          ...(plot.format === whole && { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] }),
          values: (u, at) => at.map(v => v == null ? null : plot.format(v)),
        },
      ],
      series: [{}, ...plot.lines.map(l => ({ stroke: css(l.driver), width: l.dash === solid ? 2 : 1.5, dash: l.dash, points: { show: false } }))],
      plugins: [marks],
      hooks: { setCursor: [u => tell(plot, u.cursor.idx)] },
    }, columns(plot), plot.place);
  }

  // powers are where a logarithmic axis is marked.
  function powers(u, axis, low, high) {
    const at = [];
    for (let p = Math.round(Math.log10(low)); p <= Math.round(Math.log10(high)); p++) at.push(10 ** p);
    return at;
  }

  const columns = plot => [samples.map(s => s.at), ...plot.lines.map(l => samples.map(s => l.of(s.drivers[l.driver])))];

  // tell writes the values under the cursor, or else the last ones.
  function tell(plot, at) {
    const s = samples[at ?? samples.length - 1];
    plot.lines.forEach((l, i) => { plot.values[i].textContent = s ? plot.format(l.of(s.drivers[l.driver])) : "–"; });
  }

  const started = performance.now();
  let offset = null; // between this page's clock and the run's
  const now = () => {
    const last = samples.at(-1)?.at ?? 0;
    return verdict || isReport ? Math.max(verdict?.at ?? 0, last) : offset === null ? last : Math.max(last, (performance.now() - started) / 1000 + offset);
  };

  const failed = t => Object.values(t.failed ?? {}).reduce((a, b) => a + b, 0);

  // The rows of the table: name, value, and whether it should be 0.
  const rows = [
    ["calls that succeeded", t => whole(t.ok)],
    ["calls that failed", t => whole(failed(t))],
    ["writes acknowledged", t => whole(t.writes.acked)],
    ["writes of unknown outcome", t => whole(t.writes.unknown)],
    ["writes found in the end", t => verdict ? whole(t.writes.found) : "…"],
    ["writes lost", t => whole(t.writes.lost), t => t.writes.lost],
    ["writes run twice", t => whole(t.writes.twice), t => t.writes.twice],
    ["transactions torn", t => verdict ? whole(t.writes.torn) : "…", t => t.writes.torn],
    ["replies to another request", t => whole(t.writes.foreign), t => t.writes.foreign],
    ["messages published, received", t => whole(t.published) + ", " + whole(t.received)],
    ["connections dialed", t => whole(t.dials)],
    ["times that a server came back", (t, d) => d === "everpool" ? whole(t.heals) : "not told"],
    ["latency p50", t => millis(t.p50)],
    ["latency p99", t => millis(t.p99)],
    ["slowest call", t => millis(t.max)],
  ];

  function table() {
    const totals = Object.fromEntries(drivers.map(d => [d, verdict?.verdict.drivers[d] ?? samples.at(-1)?.drivers[d].totals]));
    if (!totals[drivers[0]]) return;
    $("totals").replaceChildren(
      node("thead", {}, node("tr", {}, node("th"), ...drivers.map(d => node("th", { className: d, textContent: d })))),
      node("tbody", {}, ...rows.map(([name, of, wrong]) => node("tr", { className: wrong ? "alert" : "" }, node("th", { textContent: name }),
        ...drivers.map(d => node("td", { textContent: of(totals[d], d), className: wrong && wrong(totals[d]) ? "bad" : "" }))))));

    const kinds = [...new Set(drivers.flatMap(d => Object.keys(totals[d].failed ?? {})))].sort();
    bars($("kinds"), kinds.map(k => [k.replaceAll("_", " "), drivers.map(d => totals[d].failed?.[k] ?? 0)]), whole, "none so far");
    const hot = Object.fromEntries(drivers.map(d => [d, new Map((samples.at(-1)?.drivers[d].hot ?? []).map(k => [k.key, k.rate]))]));
    const keys = [...new Set(drivers.flatMap(d => [...hot[d].keys()]))];
    const rate = k => Math.max(...drivers.map(d => hot[d].get(k) ?? 0));
    keys.sort((a, b) => rate(b) - rate(a));
    bars($("hot"), keys.slice(0, 8).map(k => [k, drivers.map(d => hot[d].get(k) ?? 0)]), n => n ? short(n) : "–", "none yet: they are counted for five seconds");
  }

  // bars shows rows of a name and a value for each driver.
  function bars(place, rows, format, none) {
    if (!rows.length) {
      place.replaceChildren(node("p", { className: "none", textContent: none }));
      return;
    }
    place.classList.toggle("one", drivers.length === 1);
    const most = Math.max(...rows.flatMap(r => r[1]));
    place.replaceChildren(
      node("div", { className: "head" }, node("span"), ...drivers.map(d => node("span", { className: d, textContent: d }))),
      ...rows.map(([name, values]) => node("div", { className: "row" }, node("span", { className: "name", textContent: name, title: name }),
        ...values.map((v, i) => {
          const bar = node("i");
          bar.style.width = v / most * 70 + "%";
          return node("span", { className: "bar " + drivers[i] }, bar, node("em", { textContent: format(v) }));
        }))));
  }

  // The buttons, and what they say back.
  const buttons = new Map();
  function say(text, refused = false) {
    $("feedback").textContent = text;
    $("feedback").className = refused ? "refused" : "";
  }
  async function press(kind) {
    say(`${kind}: asked for …`);
    const answer = await fetch("faults/" + kind, { method: "POST" }).catch(err => ({ ok: false, text: () => `the testbench doesn't answer (${err.message})` }));
    if (!answer.ok) say(`${kind}: ${(await answer.text()).trim()}`, true);
  }
  for (const f of setup.faults) {
    const b = node("button", { textContent: f.name, title: f.about, onclick: () => press(f.name) });
    buttons.set(f.name, b);
    $("buttons").append(b);
  }
  function enable() {
    for (const [name, b] of buttons) {
      b.disabled = under !== null || verdict !== null;
      b.classList.toggle("active", under?.fault === name);
    }
  }

  // take takes an entry of the journal.
  function take(entry) {
    if (entry.kind === "sample") {
      samples.push(entry);
      offset = Math.max(offset ?? -Infinity, entry.at - (performance.now() - started) / 1000);
    } else if (entry.kind === "fault") {
      under = entry;
      faults.push(entry);
      const about = setup.faults.find(f => f.name === entry.fault)?.about ?? "";
      say(`${entry.fault}, by ${entry.by}: ${about}`);
    } else if (entry.kind === "faultOver") {
      under = null;
      const f = faults.at(-1);
      if (f) f.over = entry.at;
      if (entry.error) say(`${entry.fault}: ${entry.error}`, true);
      else if (entry.length) say(`${entry.fault} is over after ${millis((entry.at - f.at) * 1000)}`);
      else say(`${entry.fault}, by ${entry.by}: done`);
    } else if (entry.kind === "end") {
      verdict = entry;
      under = null;
    }
    document.body.dataset.samples = samples.length;
    later();
  }

  let due = false;
  function later() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; render(); });
  }

  function render() {
    enable();
    for (const plot of plots) {
      plot.u.setData(columns(plot));
      tell(plot, plot.u.cursor.idx);
    }
    table();
    if (verdict) {
      $("so-far").textContent = "In all";
      judge(verdict.verdict);
    }
    time();
  }

  function judge(v) {
    $("verdict").hidden = false;
    $("verdict").className = v.passed ? "passed" : "failed";
    $("verdict").replaceChildren(node("b", { textContent: v.passed ? "Passed." : "Failed." }),
      v.passed ? "Every acknowledged write is accounted for." : "Not every write is accounted for.",
      v.faults.length ? node("ul", {}, ...v.faults.map(f => node("li", { textContent: f }))) : "");
  }

  let gone = false;
  function time() {
    const t = clock(now()), all = setup.duration ? " of " + clock(setup.duration) : "";
    $("clock").className = verdict || isReport ? "" : gone ? "gone" : "running";
    $("clock").textContent = verdict ? "ended after " + t : isReport ? "report" : gone ? "no connection since " + t : "running, " + t + all;
  }

  $("about").textContent = `${drivers.join(" and ")} on ${setup.server}, since ${setup.began}; faults: ${setup.schedule.replaceAll(",", ", ")}`;
  $("explained").textContent = "Acknowledged ≤ found ≤ acknowledged + unknown, for every driver. go-redis alone doesn't say which failed writes may have run, so all of them are of unknown outcome there; what it runs twice is shown, and fails no run.";
  $("loads").replaceChildren("On each driver: ", ...setup.workloads.flatMap((w, i) => [i ? "; " : "", node("b", { textContent: w.name }), " (" + w.about + ")"]), ".");
  plots.forEach(build);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { plots.forEach(draw); later(); });

  if (isReport) {
    $("faults").hidden = true;
    $("faults").style.display = "none";
    log.forEach(take);
    return;
  }
  $("more").hidden = false;
  if (!drivers.includes("everpool")) {
    $("window").nextElementSibling.remove();
    $("window").remove();
  }
  const source = new EventSource("events");
  source.onopen = () => { gone = false; later(); };
  source.onerror = () => { gone = !verdict; later(); };
  source.onmessage = m => {
    take(JSON.parse(m.data));
    if (verdict) source.close();
  };
  setInterval(time, 500);
})();

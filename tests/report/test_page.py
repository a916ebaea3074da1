"""The HTML page: whole, alone, escaped, and without errors in a browser."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from stratac.codegen.library import FAMILIES, LIGHT
from stratac.compiler.report import page as pages
from stratac.compiler.report.summary import build_report
from stratac.compiler.report.text import inspect_text
from stratac.tests.report import samples

CHROMIUM = "/usr/bin/chromium"
EVIL = """</script><script>alert(1)</script><img src=x onerror=alert(1)>"'&@@script@@{plotly}\u2028<!--"""


class Reader(HTMLParser):
    """Collects elements, attributes and texts; ends with every element closed."""

    VOID = frozenset({"meta", "br", "input", "img", "hr", "link"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def html() -> str:
    return pages.page(samples.manifest(True), samples.report(True))


def evil() -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan every name of which tries to break out."""
    report, manifest = copy.deepcopy(samples.report(True)), copy.deepcopy(samples.manifest(True))
    report["name"] = manifest["name"] = EVIL
    report["notes"]["order"] = EVIL
    report["model"] = {"file": EVIL, "sha256": "0" * 64}
    for c in report["clusters"]:
        c["name"], c["why"], c["nodes"], c["ops"] = EVIL, EVIL, [EVIL], [EVIL]
        c["cluster"] = f"{c['cluster']}{EVIL}"
        c["inputs"] = [f"{i}{EVIL}" for i in c["inputs"]]
    for row in (*report["weights"], *report["crossings"]):
        row["label"] = EVIL
        row["cluster"] = row["why"] = EVIL
    return manifest, report


def test_every_section_is_there(html: str) -> None:
    reader = read(html)
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids)), "ids are unique"
    links = [attrs["href"] for tag, attrs in reader.elements if tag == "a"]
    assert links == [f"#{key}" for key in pages.SECTIONS]
    assert set(pages.SECTIONS) <= set(ids)
    rows = [attrs for tag, attrs in reader.elements if tag == "tr" and attrs.get("class") == "row"]
    assert len(rows) == len(samples.report(True)["clusters"])
    text = " ".join(reader.texts)
    for word in ("Does it fit?", "How fast is it?", "Why?", "3.", "Lower bound", "streamed", "generic-x86_64-avx2"):
        assert word in text


def test_it_asks_the_network_for_nothing(html: str) -> None:
    reader = read(html)
    for tag, attrs in reader.elements:
        assert tag not in ("link", "iframe", "img", "object", "base", "form")
        assert "src" not in attrs and not any(key.startswith("on") for key in attrs)
    policy = next(a["content"] for t, a in reader.elements if t == "meta" and a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "@import" not in html.split("<script")[0] and "url(" not in html.split("<script")[0]


def test_equal_plans_give_equal_pages(html: str) -> None:
    assert pages.page(samples.manifest(True), samples.report(True)) == html


def test_names_cannot_break_out() -> None:
    text = pages.page(*evil())
    clean = pages.page(samples.manifest(True), samples.report(True))
    kinds = lambda t: sorted({tag for tag, _ in read(t).elements})  # noqa: E731
    assert kinds(text) == kinds(clean)
    assert text.count("<script") == clean.count("<script") and text.count("<!--") == clean.count("<!--")
    assert not any("onerror" in attrs for _, attrs in read(text).elements)
    assert EVIL.split("@@")[0] not in text and text.count((pages.FOLDER / "page.js").read_text()) == 1


@pytest.mark.parametrize("value", [EVIL, {"a": [EVIL, 1.5, None]}, "\u2029<", "]]>"])
def test_embedded_json_reads_back(value: Any) -> None:
    text = pages.embedded(value)
    assert json.loads(text) == value and not set("<>&@\u2028\u2029") & set(text)


def test_a_resident_plan_has_a_page_too() -> None:
    text = " ".join(read(pages.page(samples.manifest(False), samples.report(False))).texts)
    assert "Nothing crosses from one tier to another" in text and "All weights are in memory" in text


def chromium(page: Path, folder: Path, *options: str) -> tuple[str, list[str]]:
    """The page's DOM once its scripts have run, and what they wrote to the console."""
    profile = folder / "profile"
    profile.mkdir()
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
        + ["--window-size=1280,2400", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0"]
        + [*options, "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line or "Uncaught" in line]
    return done.stdout, console


needs_browser = pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason=f"{CHROMIUM} is not installed")
#: what a test adds behind the page's own scripts: clicks, and facts that only a browser knows
PROBE = """<script>
document.querySelector("#cluster-table tr.row").click();
document.querySelector("#cluster-table th:nth-child(4)").click();
const found = document.createElement("output");
found.id = "found";
found.textContent = JSON.stringify({
  ready: document.documentElement.dataset.ready, wide: document.documentElement.scrollWidth,
  marked: document.querySelectorAll(".marked").length, charts: document.querySelectorAll(".main-svg").length,
  first: document.querySelector("#cluster-table tbody tr").cells[3].dataset.v, alerts: window.alerted || 0,
  bars: document.querySelectorAll("#timeline-chart .point").length, points: document.querySelectorAll("#roofline-chart .point").length,
});
document.body.append(found);
</script></body>"""


def browse(text: str, tmp_path: Path, *options: str) -> tuple[dict[str, Any], str, list[str]]:
    path = tmp_path / "report.html"
    trap = "<script>window.alert = () => { window.alerted = 1; };</script></head>"
    path.write_text(text.replace("</head>", trap, 1).replace("</body>", PROBE), encoding="utf-8")
    dom, console = chromium(path, tmp_path, *options)
    match = re.search(r'<output id="found">(.*?)</output>', dom)
    assert match is not None, dom[-2000:]
    return json.loads(match[1].replace("&quot;", '"')), dom, console


@needs_browser
@pytest.mark.parametrize("dark", (False, True), ids=("light", "dark"))
def test_in_a_browser(html: str, tmp_path: Path, dark: bool) -> None:
    report = samples.report(True)
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    found, dom, console = browse(html, tmp_path, *options)
    assert console == []
    assert found["ready"] == "yes" and found["wide"] <= 1280
    assert found["charts"] >= 3 and found["marked"] >= 2, "a row and its box"
    waits = sum(c["waited"] > 0 for c in report["clusters"])
    assert found["bars"] == len(report["clusters"]) + len(report["queues"][1]["spans"]) + waits
    assert found["points"] >= sum(c["flops"] > 0 for c in report["clusters"])
    assert float(found["first"]) == max(c["chosen"]["seconds"] for c in report["clusters"]), "sorted by time"
    assert all(f'<section id="{key}">' in dom for key in pages.SECTIONS)


@needs_browser
def test_names_cannot_run_in_a_browser(tmp_path: Path) -> None:
    found, _, console = browse(pages.page(*evil()), tmp_path)
    assert console == [] and found["alerts"] == 0 and found["ready"] == "yes"


def test_a_machine_without_a_disk() -> None:
    """Then nothing is known of opening, and every report says so or is silent."""
    found = samples.levels(False)
    machine = replace(found.machine, tiers=tuple(t for t in found.machine.tiers if t.kind == "memory"))
    report = build_report(found.plan, found.placed, machine)
    assert report["load"]["seconds"] is None and len(report["tiers"]) == 1
    assert "profile has no disk" in pages.page(samples.manifest(False), report)
    assert "\n  open " not in inspect_text(samples.manifest(False), report, 0)


def hollow() -> dict[str, Any]:
    """The report of a plan that computes nothing."""
    report = {
        **samples.report(False),
        "clusters": [],
        "weights": [],
        "roofs": [],
        "predicted_seconds": 0.0,
        "solution": None,
    }
    report["seconds_by"] = dict.fromkeys(report["seconds_by"], 0.0)
    report["queues"] = [{"name": "cpu", "busy": 0.0, "waited": 0.0, "spans": []}]
    report["tiers"] = [{**tier, "live": []} for tier in report["tiers"]]
    return report


@needs_browser
def test_a_plan_without_clusters_in_a_browser(tmp_path: Path) -> None:
    text = pages.page(samples.manifest(False), hollow())
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    dom, console = chromium(path, tmp_path)
    assert console == [] and 'data-ready="yes"' in dom and "No cluster computes anything" in dom
    assert "0 s" in inspect_text(samples.manifest(False), hollow(), 0)


def test_families_of_every_mode_have_a_colour() -> None:
    """`matmul_tiles_bf16x6` is drawn as `matmul` is; what has no colour of its own is drawn as `other`."""
    folder = Path(pages.__file__).parent
    css, script = (folder / "page.css").read_text(), (folder / "page.js").read_text()
    assert 'family === "winograd" ? "conv" : family.split("_")[0]' in script and ".f-winograd" in css
    for family in (row.name for row in FAMILIES if row.name not in LIGHT):
        base = "conv" if family == "winograd" else family.split("_")[0]
        assert css.count(f"--{base}: #") == 2, "in light and in dark"
        assert f".f-{base} {{ --c: var(--{base}); }}" in css or f'[class*="f-{base}"]' in css

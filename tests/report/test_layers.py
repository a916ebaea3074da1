"""The picture of the graph: readers stand below what they read, boxes do not overlap, edges lead from box to box."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from stratac.compiler.report.drawing import draw
from stratac.compiler.report.layers import Layout, lay_out
from stratac.tests.report import samples


def random_graph(seed: int) -> dict[str, list[str]]:
    rng = random.Random(seed)
    nodes: dict[str, list[str]] = {}
    for k in range(rng.randint(1, 30)):
        nodes[f"n{k}"] = rng.sample(sorted(nodes), min(len(nodes), rng.randint(0, 3)))
    return nodes


def check(nodes: dict[str, list[str]], layout: Layout) -> None:
    assert layout.place.keys() == nodes.keys()
    for name, reads in nodes.items():
        assert all(layout.place[other][0] < layout.place[name][0] for other in reads)
    by_layer: dict[int, list[float]] = {}
    for layer, x in layout.place.values():
        assert 0 <= layer < layout.layers and 0.5 - 1e-9 <= x <= layout.width - 0.5 + 1e-9
        by_layer.setdefault(layer, []).append(x)
    for row in by_layer.values():
        assert all(b - a >= 1 - 1e-9 for a, b in pairwise(sorted(row)))
    assert sorted((a, b) for a, b, _ in layout.edges) == sorted(
        (o, n) for n, reads in nodes.items() for o in set(reads)
    )
    for source, target, points in layout.edges:
        assert points[0] == layout.place[source] and points[-1] == layout.place[target]
        assert [layer for layer, _ in points] == list(range(points[0][0], points[-1][0] + 1))


@pytest.mark.parametrize("seed", range(80))
def test_random_graphs(seed: int) -> None:
    nodes = random_graph(seed)
    layout = lay_out(nodes)
    check(nodes, layout)
    assert lay_out(nodes) == layout


def test_tracks_do_not_cross_boxes() -> None:
    """A mask that every layer uses runs beside the layers, not through them."""
    nodes: dict[str, list[str]] = {"mask": [], "a0": []}
    for k in range(1, 20):
        nodes[f"a{k}"] = [f"a{k - 1}", "mask"]
    layout = lay_out(nodes)
    check(nodes, layout)
    for source, target, points in layout.edges:
        for layer, x in points[1:-1]:
            boxes = [place for name, place in layout.place.items() if name not in (source, target)]
            assert all(at != layer or abs(x - other) >= 0.5 for at, other in boxes)


def test_deep_graphs() -> None:
    """No recursion, and no more than a line for a chain."""
    nodes = {f"n{k}": [f"n{k - 1}"] if k else [] for k in range(3000)}
    layout = lay_out(nodes)
    assert layout.layers == 3000 and layout.width == 1.0
    assert lay_out({}) == Layout({}, (), 0, 0.0)


def test_the_drawing_is_xml_with_a_box_for_each_cluster() -> None:
    report = samples.report(True)
    root = ET.fromstring(draw(report))
    boxes = [g for g in root.iter("g") if "data-cluster" in g.attrib]
    assert [g.attrib["data-cluster"] for g in boxes] == [c["cluster"] for c in report["clusters"]]
    edges = [p for p in root.iter("path") if "data-from" in p.attrib]
    assert len(edges) == sum(len(c["inputs"]) for c in report["clusters"])

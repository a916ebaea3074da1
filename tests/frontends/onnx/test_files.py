"""Model files: where weights lie, external data and its limits, and files that are no models."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from stratac.compiler.frontends.onnx import import_onnx
from stratac.compiler.frontends.onnx.protobuf import LARGE, read_model
from stratac.ir.dims import Bounds
from stratac.ir.errors import ModelError
from stratac.ir.graph import FileBytes, Inline
from stratac.ir.interp import run
from stratac.tests.frontends.onnx.build import FLOAT, N, array, make, rand, save, value

B = {"n": Bounds(1, 2, 8)}
W = rand(16, 32)


def product(*extra: onnx.NodeProto, constants: list[onnx.TensorProto] | None = None) -> onnx.ModelProto:
    weights = [array("w", W), array("b", rand(32))] if constants is None else constants
    nodes = [N("MatMul", ["x", "w"], ["t"]), N("Add", ["t", "b"], ["y"]), *extra]
    return make(nodes, [value("x", FLOAT, ("n", 16))], constants=weights)


def external(location: str, offset: int = 0, length: int | None = None) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=W.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", offset), ("length", W.nbytes if length is None else length)):
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def test_large_weights_stay_in_the_model_file(tmp_path: Path) -> None:
    path = save(tmp_path, product())
    graph = import_onnx(path, B)
    weights = {w.label: w for w in graph.weights.values()}
    content = weights["w"].content
    assert isinstance(content, FileBytes) and content.file == "model.onnx" and content.nbytes == W.nbytes
    assert path.read_bytes()[content.offset :][: content.nbytes] == W.tobytes()
    assert isinstance(weights["b"].content, Inline)
    x = rand(3, 16)
    np.testing.assert_allclose(run(graph, {"x": x})["y"], x @ W + rand(32), rtol=1e-5, atol=1e-5)


def test_the_model_is_read_without_its_payloads(tmp_path: Path) -> None:
    big = array("w", np.zeros((1 << 20,), np.float32))
    held = helper.make_tensor("v", FLOAT, (LARGE,), np.ones(LARGE, np.float32).tobytes(), raw=True)
    inner = helper.make_graph([N("Constant", [], ["k"], value=held)], "then", [], [value("k", FLOAT, (LARGE,))])
    nodes = [N("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    path = save(tmp_path, make(nodes, [], constants=[big, array("c", True)]))
    small = read_model(path)
    assert small.ByteSize() < 2000
    assert [t.data_location for t in small.graph.initializer] == [onnx.TensorProto.EXTERNAL, 0]
    assert small.graph.node[0].attribute[0].g.node[0].attribute[0].t.data_location == onnx.TensorProto.EXTERNAL


def test_float_data_and_small_constants_are_inline(tmp_path: Path) -> None:
    typed = helper.make_tensor("w", FLOAT, W.shape, W.flatten().tolist())
    graph = import_onnx(save(tmp_path, product(constants=[typed, array("b", rand(32))])), B)
    assert all(isinstance(w.content, Inline) for w in graph.weights.values())


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"\0" * 64 + W.tobytes())
    model = product(constants=[external("data/w.bin", 64), array("b", rand(32))])
    graph = import_onnx(save(tmp_path, model), B)
    (content,) = [w.content for w in graph.weights.values() if w.label == "w"]
    assert content == FileBytes("data/w.bin", 64, W.nbytes)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (external("../w.bin"), "outside the model's folder"),
        (external("data/../../w.bin"), "outside the model's folder"),
        (external("/etc/passwd"), "outside the model's folder"),
        (external(""), "outside the model's folder"),
        (external("link.bin"), "link that leaves"),
        (external("folder/w.bin"), "link that leaves"),
        (external("missing.bin"), "is missing"),
        (external("short.bin"), "too short"),
        (external("short.bin", length=4), "its type needs 2048"),
        (external("short.bin", offset=-8), "its type needs"),
        (external("short.bin", offset="x"), "must be numbers"),  # type: ignore[arg-type]
    ],
)
def test_external_data_that_is_refused(tmp_path: Path, tensor: onnx.TensorProto, message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (folder / "short.bin").write_bytes(W.tobytes()[:-1])
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "folder").symlink_to(tmp_path)
    path = save(folder, product(constants=[tensor, array("b", rand(32))]))
    with pytest.raises(ModelError) as caught:
        import_onnx(path, B)
    (problem,) = caught.value.problems
    assert message in problem.what


def test_a_link_to_the_model_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    save(tmp_path / "blobs", product())
    (tmp_path / "model.onnx").symlink_to(tmp_path / "blobs" / "model.onnx")
    assert import_onnx(tmp_path / "model.onnx", B).nodes


def test_the_graph_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    graphs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        graphs.append(import_onnx(save(tmp_path / name, product()), B))
    assert graphs[0] == graphs[1]
    assert str(tmp_path) not in repr([w.content for w in graphs[0].weights.values()])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello, this is no model\n" * 50,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n",
        b"\xff" * 999,
    ],
)
def test_garbage(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        import_onnx(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        import_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="folder"):
        import_onnx(tmp_path)


def test_every_truncation_is_an_error_or_a_model(tmp_path: Path) -> None:
    data = product().SerializeToString()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(ModelError):
            import_onnx(path, B)


def test_flipped_bytes_never_give_a_traceback(tmp_path: Path) -> None:
    nodes = [
        N("Shape", ["x"], ["s"]),
        N("Gather", ["s", "zero"], ["n"]),
        N("Concat", ["n", "rest"], ["target"], axis=0),
        N("Reshape", ["x", "target"], ["r"]),
        N("Softmax", ["r"], ["p"], axis=-1),
        N("Slice", ["p", "zero", "rest"], ["y"]),
    ]
    constants = [array("zero", [0], np.int64), array("rest", [-1], np.int64)]
    data = make(nodes, [value("x", FLOAT, ("n", 4, 4))], constants=constants).SerializeToString()
    path, draw = tmp_path / "flipped.onnx", random.Random(0)
    for _ in range(600):
        bad = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 4))):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        path.write_bytes(bad)
        try:
            import_onnx(path, B)
        except ModelError as error:
            assert str(error)

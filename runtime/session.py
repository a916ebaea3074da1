"""A running plan: NumPy (or anything with DLPack) in, NumPy out."""

from __future__ import annotations

import difflib
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..ir.dims import Bounds
from ..ir.errors import PlanError, StratacError
from ..ir.interface import Interface, decode, encode, interface_from_data, named
from ..ir.narrow import narrowed
from ..ir.types import BY_ONNX, ML_NAMES, DType
from .lib import Library
from .manifest import check_machine, cpu_features, read_manifest
from .reports import Info, Memory, Port, ProfileRow, ReadRow, Traffic

__all__ = ["Info", "Memory", "Port", "ProfileRow", "ReadRow", "Session", "Traffic", "load"]

_INPUT, _OUTPUT = 0, 1
_LINE, _LARGE = 64, 1 << 16  # bytes
#: outputs of so many bytes are made ahead for the first run; of smaller ones the page faults cost it a fraction of a millisecond
AHEAD_BYTES = 1 << 20


def _port(library: Library, direction: int, index: int) -> Port:
    row = library.port(direction, index)
    return Port(library.text(row.name), BY_ONNX[row.dtype], library.text(row.shape), row.rank)


def _imported(value: Any, name: str) -> np.ndarray:
    """An array from anything with DLPack."""
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise StratacError(
            f"input {name!r}: cannot take the {type(value).__name__} through DLPack: {error}",
            hint="give a CPU tensor without gradient (tensor.detach().cpu()), or a NumPy array",
        ) from error


def _literal(value: Any, port: Port) -> np.ndarray:
    """Python numbers have no element type of their own: they take the port's, where it holds them exactly enough."""
    try:
        found = np.asarray(value)
        if port.dtype.is_narrow:
            fits = found.dtype.kind in "iuf" if port.dtype.is_float else found.dtype.kind in "iu"
            if found.size and port.dtype.is_integer and fits:
                least, most = port.dtype.limits
                fits = least <= found.min() and found.max() <= most
            if found.size and not fits:
                raise ValueError(f"{found.dtype} values do not fit {port.dtype}")
            return narrowed(found, port.dtype)
        if found.size and not np.can_cast(found.dtype, port.dtype.np, casting="same_kind"):
            raise ValueError(f"{found.dtype} values do not fit {port.dtype}")
        return np.asarray(value, dtype=port.dtype.np)
    except (ValueError, TypeError, OverflowError) as error:
        raise StratacError(f"input {port.name!r}: cannot make an array {port.dtype}{port.shape}: {error}") from error


def _conversion(dtype: DType) -> str:
    """What makes an array of numbers one that a port takes."""
    name = next((name for name, held in ML_NAMES.items() if held == dtype), "")
    return f"array.astype(ml_dtypes.{name}), or its bits" if name else f"array.astype(np.{dtype.np.name})"


def _constant_shape(port: Port) -> tuple[int, ...]:
    """The extents of a state."""
    return tuple(int(extent) for extent in port.shape.strip("[]").split(",") if extent)


def _input_array(value: Any, port: Port, what: str = "input") -> np.ndarray:
    """`value` as the runtime takes it: native byte order, dense, row-major, aligned. Copies only where it must."""
    wanted = port.dtype.np
    if isinstance(value, np.ndarray):
        array = value
        flags = array.flags
        if array.dtype == wanted and flags.c_contiguous and flags.aligned:
            return array
    elif hasattr(value, "__dlpack__"):
        array = _imported(value, port.name)
    elif isinstance(value, (bool, int, float, list, tuple)):
        array = _literal(value, port)
    else:
        array = np.asarray(value)
    if ML_NAMES.get(array.dtype.name) == port.dtype:
        # ml_dtypes keeps small integers as their bits alone
        array = array.astype(wanted) if port.dtype.is_integer else np.ascontiguousarray(array).view(wanted)
    if array.dtype.newbyteorder("=") != wanted:
        raise StratacError(
            f"{what} {port.name!r} has element type {port.dtype} ({wanted}) and got {array.dtype}",
            hint=f"convert it: {_conversion(port.dtype)}",
        )
    return np.require(array, dtype=wanted, requirements=["C", "A"])


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array for an output. A large one begins where a line of the caches does: numpy's would begin 16 bytes behind, and
    every vector that is stored would lie in two lines."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    raw = np.empty(size + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def _part(room: np.ndarray, shape: tuple[int, ...], own: bool) -> np.ndarray:
    """The elements at the start of `room` as an array of `shape`: a view of the caller's own memory, or of one mostly used."""
    count = math.prod(shape)
    view = room.reshape(-1)[:count].reshape(shape)
    return view if own or 2 * count >= room.size else view.copy()


def _interface(manifest: Mapping[str, Any]) -> Interface | None:
    if "interface" not in manifest:
        return None
    try:
        return interface_from_data(manifest["interface"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"the manifest's interface is malformed: {error}", hint="compile the plan again") from error


class Session:
    """An open plan. Calls from several threads take turns; different sessions run at the same time, each with a state of its own.

    A plan with state goes on in each run from where the last one ended. A run that is refused for its inputs leaves the state as it
    was; after one that fails on its way (a read from storage, a dim beyond its bounds) runs raise StratacError until `reset`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        verify: bool = True,
        affinity: bool = False,
        profile: bool = True,
        io: str = "auto",
    ) -> None:
        """Open the plan folder `path`.

        `threads` None: the planned number, at most what affinity and cgroup quota allow. `verify` False skips the
        digests of weights.bin. `affinity` keeps each worker on its own CPU. `profile` False does not time instructions.
        `io`: how weights that stay in storage are read: `auto`, `uring`, `threads`, or `mmap`, which is for comparison only.
        A run whose reads fail, or whose weights.bin was changed, raises PlanError, and so does every later one.
        Large output arrays of the first run are made here, for the typical dims; until that run, or one with other dims, they
        are held.
        Raises PlanError for a damaged, truncated or newer plan, EnvironmentProblem for a machine that cannot run it.
        """
        self._library: Library | None = None
        self._lock = threading.Lock()
        self.path = Path(path)
        if threads is not None and threads < 1:
            raise StratacError(f"threads must be at least 1, got {threads}", hint="leave it out for the planned number")
        self.manifest = read_manifest(self.path)
        check_machine(self.manifest, cpu_features())
        library = Library(self.path, threads=threads or 0, affinity=affinity, verify=verify, profile=profile, io=io)
        self._library = library
        info = library.info()
        self.name, self.target = library.text(info.name), library.text(info.target)
        self.threads: int = info.threads
        self.predicted_seconds: float = info.predicted_seconds
        self._instructions: int = info.instructions
        self._reads: int = info.reads
        self._arenas: int = info.arenas
        rows = [library.state(i) for i in range(info.states)]
        self._states = tuple(
            Port(library.text(row.name), BY_ONNX[row.dtype], library.text(row.shape), row.rank) for row in rows
        )
        #: the plan has dims that a run finds out
        self._late = any(row.get("runtime") for row in self.manifest["symbols"].values())
        self._interface = _interface(self.manifest)
        self._inputs = tuple(_port(library, _INPUT, i) for i in range(info.inputs))
        self._outputs = tuple(_port(library, _OUTPUT, i) for i in range(info.outputs))
        rows = [library.symbol(i) for i in range(info.symbols)]
        self.symbols = {library.text(row.name): Bounds(row.min, row.typical, row.max) for row in rows}
        self._ahead = self._made_ahead(library)

    # ---- describe ----

    def get_inputs(self) -> list[Port]:
        return list(self._inputs)

    def get_outputs(self) -> list[Port]:
        return list(self._outputs)

    def get_states(self) -> list[Port]:
        """What stays from one run to the next: caches, windows, counters."""
        return list(self._states)

    @property
    def interface(self) -> Interface | None:
        """How ports make up the model's inputs and outputs; None where each is a tensor of numbers."""
        return self._interface

    def info(self) -> Info:
        with self._lock:
            library = self._open()
            row = library.info()
            return Info(
                name=library.text(row.name),
                target=library.text(row.target),
                threads=row.threads,
                planned_threads=row.planned_threads,
                instructions=row.instructions,
                reads=row.reads,
                predicted_seconds=row.predicted_seconds,
                io=library.text(row.io),
            )

    def memory(self) -> Memory:
        """Bytes held, as the runtime counts them."""
        with self._lock:
            library = self._open()
            row = library.memory()
            arenas = [library.arena(i) for i in range(self._arenas)]
            return Memory(
                weights=row.weights,
                scratch=row.scratch,
                workspace_per_thread=row.workspace,
                threads=row.threads,
                session=row.session,
                total=row.total,
                stacks=row.stacks,
                ring=row.ring,
                states=row.states,
                mapped=row.mapped,
                arenas=tuple((library.text(a.name), library.text(a.tier), a.bytes) for a in arenas),
            )

    def profile(self) -> list[ProfileRow]:
        """Every instruction in order, measured since opening or `reset_profile`."""
        with self._lock:
            library = self._open()
            rows = [library.profile(i) for i in range(self._instructions)]
            return [
                ProfileRow(
                    library.text(row.label),
                    row.count,
                    row.nanoseconds * 1e-9 / max(1, row.count),
                    row.predicted_seconds,
                    row.flops,
                    row.bytes,
                    row.waited_nanoseconds * 1e-9 / max(1, row.count),
                )
                for row in rows
            ]

    def reads(self) -> list[ReadRow]:
        """Every read in order, measured since opening or `reset_profile`; those for the next run included."""
        with self._lock:
            library = self._open()
            rows = [library.read(i) for i in range(self._reads)]
            return [
                ReadRow(
                    library.text(row.label),
                    row.count,
                    row.nanoseconds * 1e-9 / max(1, row.count),
                    row.predicted_seconds,
                    row.bytes,
                )
                for row in rows
            ]

    def traffic(self) -> Traffic:
        with self._lock:
            row = self._open().traffic()
            return Traffic(row.streamed, row.busy_nanoseconds * 1e-9, row.lookups)

    def reset_profile(self) -> None:
        with self._lock:
            self._open().reset_profile()

    # ---- run ----

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """Run on `inputs` by name and return new arrays: all outputs in order, or those named in `outputs`.

        Where the model's values are more than arrays of numbers (see `interface`), sequences are lists, tensors of strings are
        object arrays of `str`, and an optional without a value is None; their ports may be named and given as well.
        Extents that depend on the data (how many elements are not zero, say) are those of this run.
        """
        if self._interface is None:
            return self.run_ports(outputs, inputs)
        forms, known = named(self._interface.inputs), named(self._interface.outputs)
        ports: dict[str, Any] = {}
        for name, value in inputs.items():
            ports |= encode(name, forms[name], value) if name in forms else {name: value}
        wanted = [name for name, _ in self._interface.outputs] if outputs is None else list(outputs)
        given = list(dict.fromkeys(p for name in wanted for p in (known[name].ports() if name in known else (name,))))
        arrays = dict(zip(given, self.run_ports(given, ports), strict=True))
        return [decode(known[name], arrays) if name in known else arrays[name] for name in wanted]

    def run_ports(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """`run` on the arrays of ports, whatever values they make up."""
        names = [port.name for port in self._outputs]
        wanted = list(names if outputs is None else outputs)
        self._known(wanted, names, "output")
        with self._lock:
            arrays = self._run(inputs, {})
        return [arrays[name] for name in wanted]

    def __call__(self, **inputs: Any) -> list[Any]:
        return self.run(None, inputs)

    def run_into(self, *, outputs: Mapping[str, np.ndarray], inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run and write the outputs named in `outputs` into these arrays: dense, writeable, exact dtype and shape.

        Where an extent depends on the data, an array needs room for the greatest (`output_room`), and the elements come to lie
        dense at its start. Returns the same arrays, those as views of the extents of this run.
        """
        self._known(outputs, [port.name for port in self._outputs], "output")
        with self._lock:
            found = self._run(inputs, outputs)
        return {name: found[name] for name in outputs}

    def output_room(self, **inputs: Any) -> dict[str, tuple[int, ...]]:
        """The shapes that arrays for `run_into` need with these inputs; extents that a run finds out are at their bounds."""
        with self._lock:
            library = self._open()
            self._bind_inputs(library, inputs)
            return {port.name: library.output_shape(index, port.rank) for index, port in enumerate(self._outputs)}

    # ---- state ----

    def state(self) -> dict[str, np.ndarray]:
        """What the last run left of each state, by name, as arrays of the caller's own. Raises StratacError after a run that failed
        half-way."""
        with self._lock:
            library = self._open()
            found = {}
            for index, port in enumerate(self._states):
                found[port.name] = np.empty(_constant_shape(port), port.dtype.np)
                library.save_state(index, found[port.name].reshape(-1).view(np.uint8))
            return found

    def set_state(self, values: Mapping[str, Any]) -> None:
        """What the next run finds of these states; others stay. Arrays as for inputs, none of them written where one is refused.
        Raises StratacError, also after a run that failed half-way: `reset` first."""
        names = [port.name for port in self._states]
        self._known(values, names, "state")
        held: dict[int, np.ndarray] = {}
        for index, port in enumerate(self._states):
            if port.name in values:
                array = _input_array(values[port.name], port, "state")
                if array.shape != _constant_shape(port):
                    raise StratacError(f"state {port.name!r} takes shape {port.shape} and got {list(array.shape)}")
                held[index] = array
        with self._lock:
            library = self._open()
            for index, array in held.items():
                library.load_state(index, array.reshape(-1).view(np.uint8))

    def reset(self) -> None:
        """All states as they were when the plan was opened."""
        with self._lock:
            self._open().reset()

    def _bind_inputs(self, library: Library, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """What the inputs are bound to: to be kept until the run has returned."""
        names = [port.name for port in self._inputs]
        self._known(inputs, names, "input")
        missing = [name for name in names if name not in inputs]
        if missing:
            raise StratacError(
                f"plan {self.name!r} got no {', '.join(map(repr, missing))}",
                hint=f"its inputs are {', '.join(map(str, self._inputs)) or 'none'}",
            )
        held = [_input_array(inputs[port.name], port) for port in self._inputs]
        for index, (port, array) in enumerate(zip(self._inputs, held, strict=True)):
            library.bind(_INPUT, index, array, port.dtype.onnx, array.shape)
        return held

    def _run(self, inputs: Mapping[str, Any], given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        library = self._open()
        held = self._bind_inputs(library, inputs)
        arrays: dict[str, np.ndarray] = {}
        ahead, self._ahead = self._ahead, {}
        for index, port in enumerate(self._outputs):
            shape = library.output_shape(index, port.rank)
            own, array = given.get(port.name), ahead.pop(port.name, None)
            if own is not None:
                array = self._output_array(own, port)
            elif array is None or array.shape != shape:
                array = _room(shape, port.dtype.np)
            library.bind(_OUTPUT, index, array, port.dtype.onnx, array.shape)
            arrays[port.name] = array
        library.run()
        del held
        if self._late:
            for index, port in enumerate(self._outputs):
                shape = library.found_shape(index, port.rank)
                if shape != arrays[port.name].shape:
                    arrays[port.name] = _part(arrays[port.name], shape, own=port.name in given)
        return arrays

    def _made_ahead(self, library: Library) -> dict[str, np.ndarray]:
        """Arrays for the large outputs of a run at the typical dims, with all their pages: taking memory belongs to opening. Where
        a run finds out extents it may need far less than their bounds, so nothing is made."""
        typical = tuple(bounds.typical for bounds in self.symbols.values())
        found = {}
        for index, port in enumerate(() if self._late else self._outputs):
            shape = library.shape_at(_OUTPUT, index, port.rank, typical)
            if math.prod(shape) * port.dtype.np.itemsize >= AHEAD_BYTES:
                found[port.name] = _room(shape, port.dtype.np)
                found[port.name].fill(0)
        return found

    @staticmethod
    def _output_array(array: np.ndarray, port: Port) -> np.ndarray:
        wanted = port.dtype.np
        if not isinstance(array, np.ndarray) or array.dtype != wanted:
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise StratacError(f"output {port.name!r} is written as {port.dtype} ({wanted}) and got {got}")
        if not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
            raise StratacError(
                f"output {port.name!r} got an array that is read-only, strided or not aligned",
                hint=f"make it with np.empty(shape, np.{wanted.name})",
            )
        return array

    @staticmethod
    def _known(given: Iterable[str], names: Sequence[str], what: str) -> None:
        for name in given:
            if name not in names:
                close = difflib.get_close_matches(str(name), names, 1)
                listed = f"the {what}s are {', '.join(map(repr, names)) or 'none'}"
                raise StratacError(
                    f"the plan has no {what} {name!r}", hint=f"did you mean {close[0]!r}? {listed}" if close else listed
                )

    # ---- close ----

    def _open(self) -> Library:
        if self._library is None:
            raise StratacError("the session is closed", hint="load the plan again")
        return self._library

    def close(self) -> None:
        """Give back memory and threads. Closing twice is allowed."""
        with self._lock:
            library, self._library = self._library, None
            self._ahead = {}
            if library is not None:
                library.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        library = getattr(self, "_library", None)
        if library is not None:
            library.close()

    def __repr__(self) -> str:
        ports = ", ".join(map(str, self._inputs)), ", ".join(map(str, self._outputs))
        return f"<Session {self.name}: ({ports[0]}) -> ({ports[1]}), {self.threads} threads>"


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    verify: bool = True,
    *,
    affinity: bool = False,
    profile: bool = True,
    io: str = "auto",
) -> Session:
    """Open a compiled plan; see `Session`."""
    return Session(path, threads=threads, verify=verify, affinity=affinity, profile=profile, io=io)

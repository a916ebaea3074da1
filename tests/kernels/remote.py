"""A shared object for another architecture, called through an emulator: what ctypes is for this machine's own. See remote.c."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from typing import Any

import numpy as np


class Buffer(ctypes.c_void_p):
    """A pointer to an array's elements that keeps the array: ctypes takes the pointer, `Remote` the elements."""

    def __init__(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        super().__init__(array.ctypes.data)
        self.array = array


class Function:
    """One function: integers and buffers in; `restype` as of ctypes."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote, self.name, self.restype = remote, name, ctypes.c_int

    def __call__(self, *arguments: Any) -> Any:
        kind = {ctypes.c_float: "f", ctypes.c_char_p: "s"}.get(self.restype, "i")
        answer = self.remote.ask(self.name, kind, [a if isinstance(a, Buffer) else _number(a) for a in arguments])
        if kind == "s":
            return answer
        return struct.unpack("<f", struct.pack("<I", int(answer)))[0] if kind == "f" else int(answer)


def _number(value: Any) -> int:
    return int(value.value if isinstance(value, ctypes._SimpleCData) else value)


class Remote:
    """The functions of a library as attributes. `command` runs remote.c on it."""

    def __init__(self, command: list[str]) -> None:
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.functions: dict[str, Function] = {}

    def __getattr__(self, name: str) -> Function:
        return self.functions.setdefault(name, Function(self, name))

    def ask(self, name: str, kind: str, arguments: list[Any]) -> bytes:
        """Call a function; buffers get back what it leaves in them."""
        sent, answers = self.child.stdin, self.child.stdout
        assert sent is not None and answers is not None
        sent.write(f"{name} {kind} {len(arguments)}\n".encode())
        for argument in arguments:
            if isinstance(argument, Buffer):
                sent.write(f"b {argument.array.nbytes}\n".encode())
                sent.write(argument.array.tobytes())
            else:
                sent.write(f"i {argument}\n".encode())
        sent.flush()
        line = answers.readline()
        assert line.endswith(b"\n"), f"{name}: the emulated program ended with {self.child.wait()}"
        for argument in arguments:
            if isinstance(argument, Buffer):
                array = argument.array
                array[...] = np.frombuffer(answers.read(array.nbytes), array.dtype).reshape(array.shape)
        return line[:-1]

    def close(self) -> None:
        self.child.communicate()

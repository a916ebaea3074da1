"""A plan's libplan.so as Python calls it: the only file that knows cffi."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from ..ir.errors import EnvironmentProblem, PlanError, StratacError

ABI_VERSION = 5
STATUS = ("ok", "io", "damaged", "version", "machine", "memory", "argument", "state", "busy")
IO_MODES = ("auto", "uring", "threads", "mmap")
_ERROR_BYTES = 1024

#: The declarations of csrc/include/stratac.h between its cdef marks, without comments; a test compares.
CDEF = """
typedef struct st_session st_session;

enum {
    ST_OK = 0,
    ST_IO = 1,
    ST_DAMAGED = 2,
    ST_VERSION = 3,
    ST_MACHINE = 4,
    ST_MEMORY = 5,
    ST_ARGUMENT = 6,
    ST_STATE = 7,
    ST_BUSY = 8
};

enum { ST_INPUT = 0, ST_OUTPUT = 1 };

enum {
    ST_IO_AUTO = 0,
    ST_IO_URING = 1,
    ST_IO_THREADS = 2,
    ST_IO_MMAP = 3
};

typedef struct st_options {
    uint32_t size;
    int32_t threads;
    int32_t affinity;
    int32_t skip_weights;
    int32_t skip_profile;
    int32_t io;
} st_options;

typedef struct st_info {
    const char *name;
    const char *target;
    int32_t threads;
    int32_t planned_threads;
    int32_t inputs;
    int32_t outputs;
    int32_t symbols;
    int32_t arenas;
    int32_t instructions;
    double predicted_seconds;
    int32_t reads;
    const char *io;
    int32_t states;
} st_info;

typedef struct st_symbol {
    const char *name;
    int64_t min;
    int64_t typical;
    int64_t max;
} st_symbol;

typedef struct st_port {
    const char *name;
    const char *shape;
    const char *dtype_name;
    int32_t dtype;
    int32_t rank;
} st_port;

typedef struct st_state {
    const char *name;
    const char *shape;
    const char *dtype_name;
    int32_t dtype;
    int32_t rank;
    int64_t bytes;
    int32_t zeros;
} st_state;

typedef struct st_dim {
    int64_t value;
    int32_t symbol;
} st_dim;

typedef struct st_profile {
    const char *label;
    int64_t count;
    int64_t nanoseconds;
    double predicted_seconds;
    double flops;
    double bytes;
    int64_t waited_nanoseconds;
} st_profile;

typedef struct st_read {
    const char *label;
    int64_t count;
    int64_t nanoseconds;
    int64_t bytes;
    double predicted_seconds;
} st_read;

typedef struct st_traffic {
    int64_t streamed;
    int64_t busy_nanoseconds;
    int64_t lookups;
} st_traffic;

typedef struct st_arena {
    const char *name;
    const char *tier;
    int32_t workspace;
    int64_t bytes;
} st_arena;

typedef struct st_memory {
    int64_t weights;
    int64_t scratch;
    int64_t workspace;
    int32_t threads;
    int64_t session;
    int64_t total;
    int64_t stacks;
    int64_t ring;
    int64_t states;
    int64_t mapped;
} st_memory;

int32_t st_abi_version(void);
int32_t st_open(const char *folder, const st_options *options, st_session **session, char *error, size_t error_bytes);
void st_close(st_session *session);
void st_last_error(st_session *session, char *text, size_t bytes);

int32_t st_get_info(st_session *session, st_info *info);
int32_t st_get_symbol(st_session *session, int32_t index, st_symbol *symbol);
int32_t st_get_port(st_session *session, int32_t direction, int32_t index, st_port *port);
int32_t st_get_dim(st_session *session, int32_t direction, int32_t index, int32_t axis, st_dim *dim);

int32_t st_shape_at(st_session *session, int32_t direction, int32_t index, const int64_t *symbols, int64_t *shape,
                    int32_t capacity);

int32_t st_bind_input(st_session *session, int32_t index, const void *data, int32_t dtype, int32_t rank,
                      const int64_t *shape);
int32_t st_output_shape(st_session *session, int32_t index, int64_t *shape, int32_t capacity);
int32_t st_bind_output(st_session *session, int32_t index, void *data, int32_t dtype, int32_t rank,
                       const int64_t *shape);
int32_t st_run(st_session *session);

int32_t st_found_shape(st_session *session, int32_t index, int64_t *shape, int32_t capacity);

int32_t st_get_state(st_session *session, int32_t index, st_state *row);

int32_t st_save_state(st_session *session, int32_t index, void *data, int64_t bytes);
int32_t st_load_state(st_session *session, int32_t index, const void *data, int64_t bytes);

int32_t st_reset(st_session *session);

int32_t st_get_profile(st_session *session, int32_t index, st_profile *row);
int32_t st_get_read(st_session *session, int32_t index, st_read *row);
int32_t st_get_traffic(st_session *session, st_traffic *traffic);
int32_t st_reset_profile(st_session *session);
int32_t st_get_arena(st_session *session, int32_t index, st_arena *arena);
int32_t st_get_memory(st_session *session, st_memory *memory);
"""


@functools.cache
def _ffi() -> Any:
    from cffi import FFI  # parsing the declarations costs milliseconds that importing stratac need not pay

    ffi = FFI()
    ffi.cdef(CDEF)
    return ffi


def _raise(status: int, text: str) -> None:
    """The C text is "what; what to do"."""
    what, _, hint = text.partition("; ")
    name = STATUS[status] if 0 <= status < len(STATUS) else f"status {status}"
    if name in ("io", "damaged", "version"):
        raise PlanError(what, hint=hint)
    if name in ("machine", "memory"):
        raise EnvironmentProblem(what, hint=hint)
    raise StratacError(what, hint=hint)


class Library:
    """One open session of one libplan.so. Not thread-safe; `Session` adds the lock."""

    def __init__(
        self, folder: Path, *, threads: int, affinity: bool, verify: bool, profile: bool, io: str = "auto"
    ) -> None:
        self._session: Any = None
        self._ffi = ffi = _ffi()
        path = folder / "libplan.so"
        try:
            self._lib: Any = ffi.dlopen(str(path.resolve()), ffi.RTLD_NOW | ffi.RTLD_LOCAL)
        except OSError as error:
            hint = "compile the plan on this machine, or for its architecture and C library"
            raise EnvironmentProblem(f"cannot load {path}: {error}", hint=hint) from error
        self._error = ffi.new("char[]", _ERROR_BYTES)
        version = self._lib.st_abi_version()
        if version != ABI_VERSION:
            raise PlanError(f"{path} has ABI {version}, this stratac uses {ABI_VERSION}", hint="compile the plan again")
        if io not in IO_MODES:
            raise StratacError(f"io may not be {io!r}", hint=f"it is one of {', '.join(map(repr, IO_MODES))}")
        flags = {"affinity": int(affinity), "skip_weights": int(not verify), "skip_profile": int(not profile)}
        flags["io"] = IO_MODES.index(io)
        options = ffi.new("st_options *", {"size": ffi.sizeof("st_options"), "threads": threads, **flags})
        place = ffi.new("st_session **")
        status = self._lib.st_open(os.fsencode(folder), options, place, self._error, _ERROR_BYTES)
        if status:
            _raise(status, self.text(self._error))
        self._session = place[0]

    def text(self, pointer: Any) -> str:
        return bytes(self._ffi.string(pointer)).decode(errors="replace")

    def _check(self, status: int) -> None:
        if status:
            self._lib.st_last_error(self._session, self._error, _ERROR_BYTES)
            _raise(status, self.text(self._error))

    def _get(self, kind: str, *arguments: int) -> Any:
        value = self._ffi.new(f"st_{kind} *")
        self._check(getattr(self._lib, f"st_get_{kind}")(self._session, *arguments, value))
        return value

    def info(self) -> Any:
        return self._get("info")

    def symbol(self, index: int) -> Any:
        return self._get("symbol", index)

    def port(self, direction: int, index: int) -> Any:
        return self._get("port", direction, index)

    def profile(self, index: int) -> Any:
        return self._get("profile", index)

    def read(self, index: int) -> Any:
        return self._get("read", index)

    def traffic(self) -> Any:
        return self._get("traffic")

    def arena(self, index: int) -> Any:
        return self._get("arena", index)

    def memory(self) -> Any:
        return self._get("memory")

    def state(self, index: int) -> Any:
        return self._get("state", index)

    def save_state(self, index: int, into: Any) -> None:
        """Copy a state into a dense array of its bytes."""
        data = self._ffi.from_buffer(into, require_writable=True)
        self._check(self._lib.st_save_state(self._session, index, data, len(data)))

    def load_state(self, index: int, data: Any) -> None:
        """Copy a dense array into a state."""
        held = self._ffi.from_buffer(data)
        self._check(self._lib.st_load_state(self._session, index, held, len(held)))

    def reset(self) -> None:
        """All states as they were at open."""
        self._check(self._lib.st_reset(self._session))

    def reset_profile(self) -> None:
        self._check(self._lib.st_reset_profile(self._session))

    def bind(self, direction: int, index: int, data: Any, dtype: int, shape: tuple[int, ...]) -> None:
        """Bind a dense array, which the caller keeps alive until the next run has returned."""
        function = self._lib.st_bind_output if direction else self._lib.st_bind_input
        self._check(function(self._session, index, self._ffi.from_buffer(data), dtype, len(shape), shape))

    def output_shape(self, index: int, rank: int) -> tuple[int, ...]:
        """What an output is bound with: its shape, extents that the run finds out at their bounds."""
        shape = self._ffi.new("int64_t[]", rank)
        self._check(self._lib.st_output_shape(self._session, index, shape, rank))
        return tuple(shape)

    def shape_at(self, direction: int, index: int, rank: int, symbols: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a port at values of all symbols, in the plan's order."""
        shape = self._ffi.new("int64_t[]", rank)
        self._check(self._lib.st_shape_at(self._session, direction, index, symbols, shape, rank))
        return tuple(shape)

    def found_shape(self, index: int, rank: int) -> tuple[int, ...]:
        """The shape an output came out with."""
        shape = self._ffi.new("int64_t[]", rank)
        self._check(self._lib.st_found_shape(self._session, index, shape, rank))
        return tuple(shape)

    def run(self) -> None:
        """Run what is bound; the GIL is released meanwhile."""
        self._check(self._lib.st_run(self._session))

    def close(self) -> None:
        if self._session is not None:
            self._lib.st_close(self._session)
            self._session = None
            self._ffi.dlclose(self._lib)

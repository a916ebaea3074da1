"""Cases in processes that may die: a case that takes its process down is a failure of that case alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from .suite import Outcome

#: a case that takes longer has hung
LIMIT_S = 300.0
_FORK = multiprocessing.get_context("fork")  # what the parent has loaded is there at once, also after a death


def _serve(run: Callable[[str], Outcome], channel: Connection) -> None:
    """Run the cases whose names come, until nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    while True:
        try:
            name = channel.recv()
        except EOFError:
            return
        channel.send(run(name))


@dataclass
class _Worker:
    process: BaseProcess
    channel: Connection
    case: str = ""
    started: float = 0.0

    def give(self, case: str) -> None:
        self.case, self.started = case, time.monotonic()
        self.channel.send(case)

    def end(self) -> None:
        if self.process.is_alive() and self.case:
            self.process.kill()
        self.channel.close()
        self.process.join()


def _start(run: Callable[[str], Outcome], others: Sequence[_Worker]) -> _Worker:
    ours, theirs = _FORK.Pipe()

    def child() -> None:
        ours.close()
        for other in others:  # else a worker would never see that its parent is gone
            other.channel.close()
        _serve(run, theirs)
        os._exit(0)

    process = _FORK.Process(target=child, daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _died(worker: _Worker, why: str) -> Outcome:
    return Outcome(worker.case, "died", time.monotonic() - worker.started, "died", why)


def run_cases(run: Callable[[str], Outcome], names: Sequence[str], jobs: int) -> Iterator[Outcome]:
    """The outcome of every case as it comes, `jobs` at a time; processes are forked from this one."""
    pending = list(reversed(names))
    workers: list[_Worker] = []
    try:
        while pending or any(w.case for w in workers):
            while pending and len(workers) < jobs:
                workers.append(_start(run, workers))
                workers[-1].give(pending.pop())
            first = min(w.started for w in workers if w.case)
            wait([w.channel for w in workers], timeout=max(0.0, first + LIMIT_S - time.monotonic()))
            for worker in list(workers):
                outcome = _answer(worker)
                if outcome is None:
                    continue
                yield outcome
                if outcome.result != "died" and pending:
                    worker.give(pending.pop())
                else:
                    worker.case = "" if outcome.result != "died" else worker.case
                    workers.remove(worker)
                    worker.end()
    finally:
        for worker in workers:
            worker.end()


def _answer(worker: _Worker) -> Outcome | None:
    """What a worker's case came to, None while it runs."""
    if worker.channel.poll():
        try:
            found: Outcome = worker.channel.recv()
            return found
        except (EOFError, ConnectionResetError):
            worker.process.join()
            code = worker.process.exitcode or 0
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return _died(worker, f"the process died: {why}")
    if time.monotonic() - worker.started > LIMIT_S:
        return _died(worker, f"took longer than {LIMIT_S:.0f} s")
    return None

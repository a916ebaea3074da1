"""One host, reckoned: what fits, what is streamed, and the bound on the time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratac.passes.place.collectives import Way
from stratac.passes.place.hosts import Piece
from stratac.passes.place.pieces import Chain
from stratac.passes.place.tiers import RING_BYTES, Room, reckon

GB = 1_000_000_000


def chain(seconds: float, weights: int, count: int = 10, state: int = 0, activations: int = 0) -> Chain:
    pieces = tuple(Piece(f"p{k}", seconds, 0.0, 0.0, 0.0, weights, state, 1e6) for k in range(count))
    return Chain(pieces, (), activations, 1)


def test_what_fits_is_not_streamed() -> None:
    way = reckon(chain(1.0, GB), None, Room(20 * GB, 0, 100 * GB, None, GB), 0)
    assert way.fits and way.seconds == 10.0 and way.read == 0 and way.bound == "computing"


def test_the_rest_is_read_from_storage_beside_computing() -> None:
    room = Room(5 * GB, 0, 100 * GB, None, GB)
    way = reckon(chain(0.1, GB), None, room, 0)
    assert way.fits and way.read == 5 * GB + RING_BYTES and way.seconds == pytest.approx(way.read / GB)
    assert way.held["memory"] <= room.memory and way.bound == "storage"
    assert reckon(chain(100.0, GB), None, room, 0).seconds == 1000.0  # hidden behind computing


def test_of_experts_only_the_chosen_ones_are_read() -> None:
    pieces = tuple(Piece(f"p{k}", 0.0, 0.0, 0.0, 0.0, GB, 0, 1e6, touched=0.1) for k in range(10))
    way = reckon(Chain(pieces, (), 0, 1), None, Room(5 * GB, 0, 100 * GB, None, GB), 0)
    assert way.fits and way.read == pytest.approx(0.1 * (5 * GB + RING_BYTES)) == pytest.approx(way.seconds * GB)


def test_without_storage_or_with_too_much_state_it_does_not_fit() -> None:
    way = reckon(chain(0.1, GB), None, Room(5 * GB), 0)
    assert not way.fits and way.needed["memory"] == 10 * GB
    way = reckon(chain(0.1, GB, state=GB), None, Room(5 * GB, 0, 100 * GB, None, GB), 0)
    assert not way.fits and way.needed["memory"] == 10 * GB + RING_BYTES
    assert not reckon(chain(0.1, GB), None, Room(5 * GB, 0, 9 * GB, None, GB), 0).fits  # the disk is too small


def test_an_accelerator_with_room_runs_everything() -> None:
    way = reckon(chain(1.0, GB), chain(0.01, GB), Room(20 * GB, 12 * GB, 0, Way(25e9, 0), 0), 0)
    assert way.fits and way.on_device == 10 and way.seconds == pytest.approx(0.1) and way.streamed == 0


def test_a_small_accelerator_shares_with_the_processor_or_streams() -> None:
    """Weights that do not fit: a fast link streams them, a slow one leaves them to the processor."""
    device = chain(0.001, GB)
    fast = reckon(chain(1.0, GB), device, Room(20 * GB, 5 * GB, 0, Way(100e9, 0), 0), 0)
    assert fast.on_device == 10 and fast.streamed == 5 * GB + RING_BYTES and fast.bound == "link"
    slow = reckon(chain(0.02, GB), device, Room(20 * GB, 5 * GB, 0, Way(1e9, 0), 0), 0)
    assert slow.on_device == 5 and slow.streamed == 0 and slow.bound == "computing"


@settings(deadline=None)
@given(
    st.integers(1, 30).map(lambda n: n * GB // 2),
    st.integers(0, 30).map(lambda n: n * GB // 2),
    st.floats(0.001, 1.0),
    st.floats(0.001, 1.0),
)
def test_more_of_anything_never_hurts(memory: int, device: int, host_s: float, device_s: float) -> None:
    host, gpu = chain(host_s, GB, state=GB // 100), chain(device_s, GB, state=GB // 100)
    room = Room(memory, device, 100 * GB, Way(20e9, 1e-5), 2e9)
    way = reckon(host, gpu, room, 1000)
    assert way.fits or memory < GB
    for larger in (
        Room(memory + GB, device, 100 * GB, room.link, 2e9),
        Room(memory, device + GB, 100 * GB, room.link, 2e9),
        Room(memory, device, 100 * GB, Way(40e9, 1e-5), 2e9),
        Room(memory, device, 100 * GB, room.link, 4e9),
    ):
        assert not way.fits or reckon(host, gpu, larger, 1000).seconds <= way.seconds * (1 + 1e-9)
    if way.fits:
        assert way.held["memory"] <= room.memory and way.held["device"] <= max(room.device, 0)
        assert way.seconds >= max(way.computing, way.streamed / 20e9, way.read / 2e9) * (1 - 1e-12)

"""Where bundles end depends on what is in them, so that they fall back into step after a change."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backit.engine.bundle import (
    BUNDLE_MAX,
    BUNDLE_MIN,
    THRESHOLDS,
    bundle_ends,
    bundle_overflows,
)
from backit.format.magic import KIB, MIB
from tests.vectors.engine_cases import bundle_files


def bundles(files: list[tuple[int, bytes]]) -> list[list[bytes]]:
    """The hashes of the files that share each bundle."""
    done: list[list[bytes]] = []
    held: list[bytes] = []
    size = 0
    for length, found in files:
        if bundle_overflows(size, length):
            done.append(held)
            held, size = [], 0
        held.append(found)
        size += length
        if bundle_ends(size, length, found):
            done.append(held)
            held, size = [], 0
    return [*done, held] if held else done


def test_the_thresholds_follow_their_curve() -> None:
    assert THRESHOLDS[0] == 0
    assert all(below < above for below, above in pairwise(THRESHOLDS))
    for n, threshold in enumerate(THRESHOLDS):
        assert math.isclose(threshold / 2**64, 1 - math.exp(-n / 512), abs_tol=1e-12)


def test_bundles_are_about_a_mebibyte() -> None:
    files = bundle_files("any")
    sizes = {found: size for size, found in files}
    weights = [sum(sizes[each] for each in bundle) for bundle in bundles(files)]
    assert all(weight <= BUNDLE_MAX for weight in weights)
    assert all(weight >= BUNDLE_MIN for weight in weights[:-1])
    assert 0.7 * MIB < sum(weights) / len(weights) < 1.4 * MIB


@given(
    place=st.integers(0, 1999),
    size=st.integers(0, 512 * KIB - 1),
    hashed=st.binary(min_size=32, max_size=32),
)
def test_after_a_change_the_boundaries_fall_back_into_step(
    place: int, size: int, hashed: bytes
) -> None:
    files = bundle_files("any")
    before = bundles(files)
    after = bundles([*files[:place], (size, hashed), *files[place:]])
    known = {tuple(bundle) for bundle in before}
    assert sum(tuple(bundle) not in known for bundle in after) <= 12


@given(held=st.integers(0, BUNDLE_MIN - 1), size=st.integers(0, 512 * KIB - 1))
def test_a_small_bundle_never_ends(held: int, size: int) -> None:
    assert not bundle_ends(held, size, bytes(32))


def test_an_empty_file_ends_nothing_and_any_other_can() -> None:
    assert not bundle_ends(MIB, 0, bytes(32))
    assert bundle_ends(MIB, 1, bytes(32))
    assert not bundle_ends(MIB, 512 * KIB, b"\xff" * 32)


def test_a_file_goes_into_an_empty_bundle_however_large_it_is() -> None:
    assert not bundle_overflows(0, BUNDLE_MAX + 1)
    assert not bundle_overflows(1, BUNDLE_MAX - 1)
    assert bundle_overflows(2, BUNDLE_MAX - 1)

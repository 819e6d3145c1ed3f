"""Files of any size are written past the page cache as they are."""

from itertools import count
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from chipmill.io.direct import Cached, Direct

ROOM = 4 << 20
_numbers = count()
SIZES = st.integers(0, 9000) | st.integers(-3, 3).map(lambda more: ROOM + more)


@pytest.mark.parametrize("kind", [Direct, Cached])
@given(pieces=st.lists(SIZES, max_size=6))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pieces_of_any_size_become_one_file(
    tmp_path: Path, kind: type[Direct] | type[Cached], pieces: list[int]
) -> None:
    """Whole aligned writes, their edges, and a rest that is not aligned."""
    path, chance = tmp_path / str(next(_numbers)), np.random.default_rng(len(pieces))
    parts = [chance.bytes(size) for size in pieces]
    with kind(path) as file:
        for part in parts:
            file.write(part)
        file.sync()
    assert path.read_bytes() == b"".join(parts)
    path.unlink()


def test_a_file_system_without_direct_writes_will_do() -> None:
    """Memory of the system, of which there is no page cache to go past."""
    path = Path("/dev/shm/chipmill-test-direct")  # noqa: S108  it is the one that is such
    if not path.parent.is_dir():
        pytest.skip("there is no /dev/shm here")
    data = np.random.default_rng(0).bytes(ROOM + 5)
    try:
        with Direct(path) as file:
            file.write(data)
            file.sync()
        assert path.read_bytes() == data
    finally:
        path.unlink(missing_ok=True)

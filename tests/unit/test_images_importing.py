"""Work folders of imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from dozencloud.errors import Problem
from dozencloud.images.importing import room_for, work_folder


def test_what_a_killed_import_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / "import-killed").mkdir()
    (tmp_path / "import-killed" / "disk").touch()
    (tmp_path / "ubuntu-24.04.part").touch()
    with work_folder(tmp_path) as one, work_folder(tmp_path) as other:
        assert one != other
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {one.name, other.name, "ubuntu-24.04.part"}
    assert [path.name for path in tmp_path.iterdir()] == ["ubuntu-24.04.part"]


def test_room_is_asked_for_before_work_begins(tmp_path: Path) -> None:
    room_for(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(Problem, match="MiB free; the image needs"):
        room_for(tmp_path, 1 << 60)

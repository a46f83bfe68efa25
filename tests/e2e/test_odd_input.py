"""What nobody should type, to a cloud that runs: what asks its APIs ends in a sentence, too."""

from __future__ import annotations

import oddinput
import pytest
from testcloud import TestCloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ASKING = {("server", "explain"), ("debug",), ("ssh",), ("bench",), ("node", "show")}


@pytest.mark.parametrize(
    "path", sorted(ASKING | {("image", "inspect")}), ids=lambda path: " ".join(path)
)
def test_odd_words_end_in_a_sentence(
    cloud: TestCloud, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    oddinput.forbid_exec(monkeypatch)
    command = dict(oddinput.leaves())[path]
    for case in oddinput.cases(path, command):
        wrong = oddinput.complaint(oddinput.run(cloud.root, case.words))
        assert not wrong, f"{path} {case.what}: {wrong}"

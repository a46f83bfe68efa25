"""What a new cloud has, as far as it needs no cloud."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure, Unauthorized

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node
from dozencloud.cloud.secret import Secrets
from dozencloud.content import seed
from dozencloud.content.seed import Seed


def test_a_login_that_hangs_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no error that nobody foresaw."""
    monkeypatch.setattr(seed, "SSH_SECONDS", 0.1)
    assert not seed._succeeds(["sleep", "30"])()
    assert seed._succeeds(["true"])()


@pytest.mark.parametrize(
    ("answer", "let_in"), [("token", True), (Unauthorized(), False), (ConnectFailure(), None)]
)
def test_only_a_password_that_is_not_taken_is_mended(
    answer: str | Exception, let_in: bool | None, tmp_path: Path
) -> None:
    def get_token() -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)
    made = Seed(Cloud(tmp_path), node, Secrets(tmp_path / "secrets.json"))
    forgotten: list[bool] = []
    made.sdk = SimpleNamespace(
        session=SimpleNamespace(get_token=get_token, invalidate=lambda: forgotten.append(True))
    )
    if let_in is None:
        with pytest.raises(ConnectFailure):
            made.let_in()
    else:
        assert made.let_in() is let_in
    assert forgotten  # the catalogue that came with it

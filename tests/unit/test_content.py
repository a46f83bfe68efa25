"""What a new cloud has, as far as it needs no cloud."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure, Unauthorized

from dozencloud.content import first, identity


def test_a_login_that_hangs_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no error that nobody foresaw."""
    monkeypatch.setattr(first, "SSH_SECONDS", 0.1)
    assert not first._succeeds(["sleep", "30"])()
    assert first._succeeds(["true"])()


@pytest.mark.parametrize(
    ("answer", "let_in"), [("token", True), (Unauthorized(), False), (ConnectFailure(), None)]
)
def test_only_a_password_that_is_not_taken_is_mended(
    answer: str | Exception, let_in: bool | None
) -> None:
    def get_token() -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    forgotten: list[bool] = []
    sdk = SimpleNamespace(
        session=SimpleNamespace(get_token=get_token, invalidate=lambda: forgotten.append(True))
    )
    if let_in is None:
        with pytest.raises(ConnectFailure):
            identity.let_in(sdk)
    else:
        assert identity.let_in(sdk) is let_in
    assert forgotten  # the catalogue that came with it

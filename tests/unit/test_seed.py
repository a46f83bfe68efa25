"""What a new cloud has, as far as it needs no cloud."""

from __future__ import annotations

import pytest

from dozencloud import seed


def test_a_login_that_hangs_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no error that nobody foresaw."""
    monkeypatch.setattr(seed, "SSH_SECONDS", 0.1)
    assert not seed._succeeds(["sleep", "30"])()
    assert seed._succeeds(["true"])()

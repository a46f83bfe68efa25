"""What a new cloud has, as far as it needs no cloud."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure, Unauthorized

from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Node, Plan
from dozencloud.cloud.secret import Secrets
from dozencloud.cloud.state import State
from dozencloud.content import first, identity
from dozencloud.content.tasks import Content
from dozencloud.tasks.graph import Step, Task


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


def test_what_is_done_is_done_again_where_it_is_gone_or_its_inputs_are_others(
    tmp_path: Path,
) -> None:
    cloud = Cloud(tmp_path)
    cloud.lib.mkdir()
    node = Node("node", "chassis", "qemu", "netdev", "x86_64", kvm_present=True)
    plan = Plan(cloud, node, Secrets(cloud.secrets_file), tmp_path)
    content = Content(plan, State.of(cloud), "code", lambda: True, lambda _step: None)
    made: list[str] = []

    def task(inputs: str) -> Task:
        def run(_step: Step) -> None:
            made.append(inputs)

        return content._kept("thing", "A thing", run, (), inputs, there=lambda: bool(made))

    def done(inputs: str) -> bool:
        check = task(inputs).done
        assert check is not None
        return check()

    assert not done("one")
    task("one").run(Step(log=StringIO()))
    assert (done("one"), done("other")) == (True, False)
    made.clear()
    assert not done("one")

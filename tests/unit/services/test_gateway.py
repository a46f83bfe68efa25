"""The gateway's configuration: what goes where, how large, how slow, by which TLS."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from nodes_kit import MEMBER
from plans_kit import make_plan

from dozencloud.cloud import tls
from dozencloud.services import ALL, gateway, services
from dozencloud.services.glance import IMAGE_DATA


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    return services(make_plan(tmp_path_factory.mktemp("p")))[0].files[0].content


def servers(config: str) -> tuple[str, str]:
    """Of HTTP: the public one, and the one inside."""
    _, public, inside = config.partition("http {")[2].split("\n  server {\n")
    return public, inside


def block(server: str, begin: str) -> str:
    """A location with all that is in it, one level deep."""
    return server.partition(f"    location {begin} {{")[2].partition("}\n")[0]


@pytest.mark.parametrize("number", [0, 1])
def test_only_image_data_streams_and_has_no_limit(config: str, number: int) -> None:
    server = servers(config)[number]
    streams = [part for part in server.split("    location ") if "request_buffering off" in part]
    (data,) = streams
    assert data.startswith(f'~ "{gateway.DATA}"')
    assert f"proxy_pass http://{IMAGE_DATA.name};" in data
    unlimited = [part for part in server.split("    location ") if "max_body_size 0;" in part]
    assert unlimited == streams
    apis = [(each.name, each.api) for each in ALL if each.api and each.api.kind]
    assert len(apis) == 5
    for name, api in apis:
        for which in (f"/{api.path}/", f"= /{api.path}"):
            inside = block(server, which)
            assert f"proxy_pass http://{name};" in inside
            assert f"client_max_body_size {api.body};" in inside


@pytest.mark.parametrize(
    ("path", "is_data"),
    [
        ("/image/v2/images/ID/file", True),
        ("/image/v2.9/images/ID/file", True),
        ("/image/images/ID/file", True),
        ("/image/v2/images/ID/stage", True),
        ("/image/v2/images/ID/file/", True),
        ("/image/v2/images/ID/import", False),
        ("/image/v2/images/file", True),
        ("/image/v2/images", False),
        ("/compute/v2/file", False),
    ],
)
def test_image_data_has_its_own_threads(path: str, is_data: bool) -> None:
    assert bool(re.search(gateway.DATA, path)) == is_data


@pytest.mark.parametrize(
    ("path", "is_login"),
    [
        ("/identity/v3/auth/tokens", True),
        ("/identity/v3/auth/tokens/", True),
        ("/identity/v3/users/0123/password", True),
        ("/identity/v3/OS-OAUTH2/token", True),
        ("/identity/v3/auth/tokens/OS-PKI/revoked", False),
        ("/identity/v3/users/0123", False),
    ],
)
def test_passwords_are_tried_at_one_place(path: str, is_login: bool) -> None:
    assert bool(re.search(gateway.LOGIN, path)) == is_login


def test_logins_from_outside_are_limited_and_from_inside_not(config: str) -> None:
    public, inside = servers(config)
    assert "limit_req zone=logins" in block(public, f'~ "{gateway.LOGIN}"')
    assert "limit_req zone=logins" not in inside
    # By this Keystone knows who comes from outside.
    assert "X-Forwarded-For $remote_addr;" in block(public, f'~ "{gateway.LOGIN}"')
    assert 'X-Forwarded-For "";' in block(inside, f'~ "{gateway.LOGIN}"')


def test_threads_for_image_data_are_left_to_the_inside() -> None:
    assert IMAGE_DATA.threads > gateway.TRANSFERS


def test_no_word_of_the_client_becomes_a_link(config: str) -> None:
    public, inside = servers(config)
    assert "$http_host" not in inside
    # The console proxy compares it with the page's address.
    for part in public.split("    location "):
        assert "$http_host" not in part or part.startswith("= /console/")
    assert "$host" not in config


def test_refusals_are_sentences_in_the_form_of_openstacks_errors(config: str) -> None:
    public, _ = servers(config)
    for status in gateway.SENTENCES:
        inside = block(public, f"= /-/{status}")
        assert "internal;" in inside
    said = re.findall(r"return (\d+) '(.*)\\n';", public)
    assert {int(status) for status, _ in said} == set(gateway.SENTENCES)
    for status, text in said:
        error = json.loads(text)["error"]
        assert error["code"] == int(status)
        assert error["message"] == gateway.SENTENCES[int(status)]
        assert error["title"]


@pytest.mark.parametrize("has_nodes", [False, True])
def test_every_listener_with_tls_takes_present_suites_only(tmp_path: Path, has_nodes: bool) -> None:
    plan = make_plan(tmp_path)
    if has_nodes:
        object.__setattr__(plan, "members", (MEMBER,))
    config = ALL[0].describe(plan).files[0].content
    listeners = re.findall(r"listen [^;]* ssl[^;]*;", config)
    assert len(listeners) == (2 if has_nodes else 1)
    assert config.count("ssl_protocols TLSv1.2 TLSv1.3;") == len(listeners)
    assert config.count(f"ssl_ciphers {tls.CIPHERS};") == len(listeners)
    assert all(
        re.fullmatch(r"ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", suite)
        for suite in tls.CIPHERS.split(":")
    )


def test_headers_are_said_again_where_others_are(config: str) -> None:
    public, _ = servers(config)
    for part in public.split("    location ")[1:]:
        if "add_header" in part:
            assert "Strict-Transport-Security" in part
            assert "nosniff" in part

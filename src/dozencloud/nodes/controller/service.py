"""What the controller answers to nodes: a small API below /nodes, behind the gateway.

Runs as root: it signs certificates and makes accounts in Keystone and RabbitMQ. So it takes little:
six requests of at most 64 KiB, each checked before anything is done.

    POST /v1/join          a token, a name, a request for a certificate -> all that a node needs
    POST /v1/report        how the node is -> whose certificates are good, which nodes to trust,
                           what tunnels to speak
    POST /v1/state         nothing -> whether servers can be placed on it, and what that waits for;
                           our release
    POST /v1/certificate   a request for a certificate -> the certificate
    POST /v1/peers         a request for a certificate -> by what nodes know each other
    POST /v1/leave         the node goes, unless servers are on it

The last five carry the node's name and secret (HTTP Basic, RFC 7617).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from dozencloud import RELEASE
from dozencloud.cloud.installation import load
from dozencloud.cloud.membership import Member
from dozencloud.errors import Problem
from dozencloud.nodes import reports, schemas
from dozencloud.nodes.controller import authority, departing, enrol, opening
from dozencloud.nodes.tokens import Refused

LARGEST = 64 * 1024  # bytes of a request

application = Flask("dozencloud-nodes")
application.config["MAX_CONTENT_LENGTH"] = LARGEST
_root = os.environ.get("DOZEN_ROOT")
cloud = load(Path(_root) if _root else None)
log = logging.getLogger("dozencloud.nodes")


@application.post("/v1/join")
def join() -> Any:
    asked = enrol.JoinRequest.read(request.get_json(silent=True), _seen())
    given = enrol.join(cloud, asked)
    log.warning("node %s joined from %s", asked.name, _seen())
    return jsonify(given)


@application.post("/v1/report")
def report() -> Any:
    member = _member()
    told = reports.keep(cloud, member, request.get_json(silent=True))
    good = authority.identifier(authority.authority(cloud).certificate)
    spoken = opening.speak(cloud, member, told.encapsulation)
    return jsonify(
        {"authority": good, "migration": authority.peers(cloud), "encapsulations": spoken}
    )


@application.post("/v1/state")
def state() -> Any:
    lacking = reports.lacks(cloud, _member())
    return jsonify({"nova": not lacking, "lacking": lacking, "release": RELEASE})


@application.post("/v1/certificate")
def certificate() -> Any:
    return jsonify({"certificate": enrol.renew(cloud, _member(), _csr())})


@application.post("/v1/peers")
def peers() -> Any:
    return jsonify(enrol.peer(cloud, _member(), _csr()))


@application.post("/v1/leave")
def leave() -> Any:
    member = _member()
    departing.let_go(cloud, member.name)
    return jsonify({})


def _seen() -> str:
    """The node's address as the gateway saw it, which sets this header itself."""
    return request.headers.get("X-Forwarded-For", "")


def _csr() -> str:
    sent = schemas.fitting(schemas.CERTIFICATE, request.get_json(silent=True))
    return str(sent["csr"])


def _member() -> Member:
    given = request.authorization
    return enrol.authenticated(
        cloud, (given and given.username) or "", (given and given.password) or ""
    )


@application.errorhandler(Problem)
def problem(error: Problem) -> tuple[Response, int]:
    said = {"what": error.what, "mend": error.mend}
    if isinstance(error, Refused):
        return jsonify(said | {"reason": error.reason}), 403
    log.error("%s", error, exc_info=error)
    return jsonify(said), 500


@application.errorhandler(Exception)
def unforeseen(error: Exception) -> Any:
    if isinstance(error, HTTPException):
        return error
    log.error("unforeseen", exc_info=error)
    see = f"See on the controller: {cloud.command('logs', 'nodes')}"
    return jsonify({"what": "The controller failed at what this node asked.", "mend": see}), 500

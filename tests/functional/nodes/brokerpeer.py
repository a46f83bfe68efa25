"""A process that calls and is called through oslo.messaging, as Nova's are.

Takes: the options' file, the transport_url, its topic, its name, and perhaps `--node`. Reads JSON
from its input, one request a line, and answers each with one line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

CONTEXT: dict[str, Any] = {}
TIMEOUT = 20


def start(options: str, url: str, topic: str, name: str, *words: str) -> None:
    if "--node" in words:
        from dozencloud.compute.joined import nodebus

        nodebus.use()
    oslo_messaging.set_transport_defaults("nova")
    conf = cfg.CONF
    conf(["--config-file", options], project="test")
    transport = oslo_messaging.get_rpc_transport(conf, url)
    heard: list[str] = []

    class Endpoint:
        def echo(self, context: Any, text: str) -> str:
            return f"{name} heard {text}"

        def note(self, context: Any, text: str) -> None:
            heard.append(text)

    server = oslo_messaging.get_rpc_server(
        transport,
        oslo_messaging.Target(topic=topic, server=name),
        [Endpoint()],
        executor="threading",
        access_policy=oslo_messaging.DefaultRPCAccessPolicy,
    )
    server.start()

    def request(kind: str, topic: str, server: str, text: str) -> Any:
        if kind == "heard":
            return heard
        target = oslo_messaging.Target(topic=topic, server=server or None)
        client = oslo_messaging.get_rpc_client(transport, target, timeout=TIMEOUT, retry=3)
        if kind == "call":
            return client.call(CONTEXT, "echo", text=text)
        return client.cast(CONTEXT, "note", text=text)

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        try:
            answer = request(*json.loads(line))
        except oslo_messaging.MessagingException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    start(*sys.argv[1:])

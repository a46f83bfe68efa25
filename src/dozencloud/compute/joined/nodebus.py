"""oslo.messaging's driver for an account that may declare, bind and delete nothing in RabbitMQ.

What it needs is there (nodes/controller/broker.py) and is taken as it is. Answers go by an exchange
of their own, since the default one would let a node write into every queue, and come into a queue
that has the account's name.

Nova calls a compute by its name only. So the queue `compute`, which all of them would share, and
the fanout to all of them are left out.
"""

from __future__ import annotations

from typing import Any

from oslo_messaging._drivers import impl_rabbit

from dozencloud.cloud.installation import BROKER_ANSWERS


class Consumer(impl_rabbit.Consumer):  # type: ignore[misc]
    """Takes from a queue that is there."""

    def declare(self, conn: Any) -> None:
        self.queue = impl_rabbit.kombu.entity.Queue(
            name=self.queue_name, channel=conn.channel, no_declare=True
        )
        self._declared_on = conn.channel


class Connection(impl_rabbit.Connection):  # type: ignore[misc]
    """Sends to exchanges that are there, takes what is for this node alone."""

    def declare_topic_consumer(
        self, exchange_name: str, topic: str, callback: Any = None, queue_name: Any = None
    ) -> None:
        if "." in topic:
            super().declare_topic_consumer(exchange_name, topic, callback, queue_name)

    def declare_fanout_consumer(self, topic: str, callback: Any) -> None:
        """None."""

    def _ensure_publishing(
        self, method: Any, exchange: Any, msg: Any, *arguments: Any, **options: Any
    ) -> None:
        exchange.passive = True
        exchange.name = exchange.name or BROKER_ANSWERS
        super()._ensure_publishing(method, exchange, msg, *arguments, **options)


class Driver(impl_rabbit.RabbitDriver):  # type: ignore[misc]
    """What a transport_url of `rabbit:` means on a node."""

    def _get_reply_queue_name(self) -> str:
        (host,) = self._url.hosts
        return f"reply_{host.username}"


def use() -> None:
    """Put these in the place of upstream's, for the whole process."""
    impl_rabbit.Consumer, impl_rabbit.Connection = Consumer, Connection
    impl_rabbit.RabbitDriver = Driver

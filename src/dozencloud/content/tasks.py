"""What a new cloud has, as tasks.

Everything is looked for first, so that a run that was cut off goes on. One SDK process does it
all: each `openstack` call would cost 1.5-2 s.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from dozencloud.access.administrator import connect
from dozencloud.access.ssh import KeyFiles
from dozencloud.cloud.installation import Cloud
from dozencloud.cloud.plan import Plan
from dozencloud.cloud.state import REGISTERED, State, digest
from dozencloud.content import (
    catalogue,
    first,
    flavors,
    hypervisor,
    identity,
    image,
    key,
    networks,
    schema,
)
from dozencloud.host.network import uplink
from dozencloud.images.inspection.model import Inspection
from dozencloud.images.tiny import direct
from dozencloud.services import catalogued, keystone_users
from dozencloud.tasks.graph import Step, Task

TINY = "aarch64"
"""Architecture of the image that a new cloud has."""


@dataclass
class Content:
    """Makes the tasks for one cloud on its controller.

    code: changes with this software and its dependencies. unchanged: whether all services run as
    they did before. await_tools: returns when the packages of the cloud are there.
    """

    plan: Plan
    state: State
    code: str
    unchanged: Callable[[], bool]
    await_tools: Callable[[Step], None]

    @property
    def cloud(self) -> Cloud:
        return self.plan.cloud

    @cached_property
    def sdk(self) -> Any:
        return connect(self.cloud)

    @cached_property
    def keystone(self) -> Any:
        return identity.keystone(self.cloud)

    def who(self) -> list[Task]:
        """The accounts, which services need before they can be asked for anything."""
        return [
            Task(
                "administrator",
                "The administrator's account",
                partial(schema.administrator, self.plan),
                ("keystone", "gateway"),
                done=lambda: identity.let_in(self.sdk),
            ),
            self._kept(
                "accounts",
                "Accounts of the services",
                lambda _step: identity.make_accounts(self.keystone, self.plan.secrets),
                ("administrator",),
                keystone_users(),
            ),
        ]

    def what(self) -> list[Task]:
        """All that users find, up to an image to make servers from."""
        return [*self._catalogue(), *self._for_servers(), *self._image()]

    def first_server(self) -> list[Task]:
        """A server that somebody can log in to."""
        return [
            self._kept(
                "first-server",
                "Server `first`",
                self._first_server,
                ("compute-node", "flavors", "key", "networks", "image", "ovn-agent"),
                (),
            ),
            self._kept(
                "login-prompt",
                "Login prompt",
                lambda step: first.await_prompt(self.sdk, step),
                ("first-server",),
                (),
            ),
            self._kept(
                "ssh",
                "SSH into the server",
                lambda step: first.log_in(self.sdk, self.cloud, step),
                ("login-prompt",),
                (),
            ),
        ]

    def await_node(self, step: Step) -> None:
        """Until the cloud's own node takes servers."""
        hypervisor.await_listed(self.sdk, self.plan.node.name, step)

    def _catalogue(self) -> list[Task]:
        return [
            self._kept(
                "catalogue",
                "Service catalogue",
                lambda _step: catalogue.register(self.keystone, self.cloud),
                ("accounts",),
                (
                    *(self.cloud.public_url, self.cloud.internal_url),
                    [(api.kind, api.name, api.path, api.version) for api in catalogued()],
                ),
            ),
            self._kept(
                "image-limits",
                "How many images a project may have",
                lambda _step: catalogue.limit_images(self.keystone),
                ("catalogue",),
                tuple(catalogue.IMAGE_LIMITS),
            ),
        ]

    def _for_servers(self) -> list[Task]:
        return [
            Task(
                "compute-node",
                "This node takes servers",
                self._compute_node,
                after=(
                    *("catalogue", "nova-compute", "nova-api", "placement", "nova-scheduler"),
                    "nova-conductor",
                ),
                done=lambda: self.unchanged() and bool(self.state.get("compute-node")),
            ),
            self._kept(
                "flavors",
                "Flavors",
                lambda _step: flavors.make(self.sdk.compute),
                ("catalogue", "nova-api"),
                (),
            ),
            self._kept(
                "key",
                "SSH key",
                lambda _step: key.bring(self.sdk.compute, KeyFiles(self.cloud)),
                ("catalogue", "nova-api"),
                (),
                there=lambda: key.there(self.sdk.compute),
            ),
            self._kept(
                "networks",
                "Networks and router",
                self._networks,
                ("catalogue", "neutron", "ovn-northd", "ovn-controller"),
                (self.cloud.projects, networks.GROUP_RULES),
                there=lambda: networks.there(self.sdk),
            ),
        ]

    def _image(self) -> list[Task]:
        return [
            Task(
                "tiny-image",
                "ARM image made from Debian's packages",
                self._build_image,
                done=lambda: bool(self.state.get("tiny-image") == self.image_inputs),
            ),
            self._kept(
                "image",
                "ARM image in Glance",
                lambda step: image.put(self.sdk, self.cloud, self._tiny, self._in_tiny, step),
                ("image-limits", "glance", "tiny-image"),
                self.image_inputs,
                there=lambda: image.whole(self.sdk, TINY),
            ),
        ]

    def _kept(
        self,
        name: str,
        title: str,
        run: Callable[[Step], None],
        after: tuple[str, ...],
        inputs: object,
        there: Callable[[], bool] = lambda: True,
    ) -> Task:
        """A task that is done once for these inputs, and anew where what it made is not there."""
        fingerprint = digest(inputs)

        def run_and_keep(step: Step) -> None:
            run(step)
            self.state.set(name, fingerprint)

        def done() -> bool:
            return self.state.get(name) == fingerprint and there()

        return Task(name, title, run_and_keep, after, done=done)

    def _compute_node(self, step: Step) -> None:
        self.await_node(step)
        self.state.set("compute-node", True)

    def _networks(self, _step: Step) -> None:
        networks.make(self.sdk, self.cloud)
        self.state.set(uplink.STATE, self.cloud.settings.network.provider_interface)
        self.state.set(REGISTERED, self.cloud.registered)

    @cached_property
    def image_inputs(self) -> str:
        """Fingerprint of what the small image is made by, and from where."""
        settings = self.cloud.settings.image
        return digest(self.code, settings.mirror, settings.suite)

    @cached_property
    def _tiny(self) -> direct.TinyImage:
        settings = self.cloud.settings.image
        return direct.build(TINY, self.cloud.cache, mirror=settings.mirror, suite=settings.suite)

    @cached_property
    def _in_tiny(self) -> Inspection:
        return image.look(self._tiny)

    def _build_image(self, step: Step) -> None:
        # Nothing waits for it until the cloud runs; Linux has a priority per thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        settings = self.cloud.settings.image
        self._tiny = direct.build(
            TINY,
            self.cloud.cache,
            mirror=settings.mirror,
            suite=settings.suite,
            say=step.note,
            await_tools=partial(self.await_tools, step),
        )
        step.note("a look into it")
        self._in_tiny = image.look(self._tiny)
        self.state.set("tiny-image", self.image_inputs)

    def _first_server(self, step: Step) -> None:
        made_from = image.id_of(self.sdk, image.name_of(TINY))
        first.create(self.sdk, self.cloud, made_from, step)

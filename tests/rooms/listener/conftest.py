"""A provider of an era with a channel, over the model of Slurm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import START, Clock, Open, Serve, World
from tests.rooms.listener import records
from tests.sandbox.core import SimulatedCore
from tests.support.model import Model
from ucloud_slurm.provider.context import Provider

MakeWorld = Callable[..., World]


def with_channel(provider: Provider) -> Provider:
    """The same provider in an era that has a channel."""
    return replace(provider, era=provider.era._replace(has_channel=True))


@pytest.fixture
def make_world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock) -> MakeWorld:
    """Everything but a real Slurm, as configured."""

    def make(**tables: Any) -> World:
        provider = with_channel(open_provider(**tables))
        return World(core, provider, model, clock, serve(provider))

    return make


@pytest.fixture
def channel_world(make_world: MakeWorld) -> World:
    return make_world()


def hear(world: World, message: bytes) -> bool:
    """What the listener does with a message."""
    return world.provider.wallets.take(records.read(message), "example", START)


def running(world: World, **more: object) -> str:
    """A job that runs, and of which UCloud knows that."""
    job_id = world.submit(**more)
    world.work(15)
    world.model.begin_run(world.slurm(job_id))
    world.work(15)
    assert world.told(job_id)[-1:] == ["RUNNING"]
    return job_id

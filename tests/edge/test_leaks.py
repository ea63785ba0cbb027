"""A thousand requests while a member goes up and down: all end in time, none is wrong, and nothing leaks."""

import asyncio
import gc
import os

import numpy as np
import pytest

from dico_tf.edge.members.ask_all import BelowQuorum
from tests.edge.committees import committee, expected
from tests.edge.faulty_member import SIZE, Process

SECONDS = 0.2
SLACK = 20.0  # seconds that a busy machine may add; a member that hangs never answers
IMAGES = np.random.default_rng(3).integers(0, 256, (16, 1, SIZE, SIZE, 3), np.uint8)
NAMES = ["branch_0", "branch_1", "branch_2"]


def open_resources():
    """Return the numbers of open descriptors and asyncio tasks of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def settled(before):
    """Wait up to 30 s until no more resources are open than before; return their numbers."""
    for _ in range(300):
        descriptors, tasks = open_resources()
        if descriptors <= before[0] and tasks <= before[1]:
            break
        await asyncio.sleep(0.1)
    return descriptors, tasks


async def come_and_go(member, turns):
    for word in turns:
        await asyncio.to_thread(member.does, word)
        await asyncio.sleep(0.25)


async def one(remote, number, results):
    image = IMAGES[number % len(IMAGES)]
    started = asyncio.get_running_loop().time()
    try:
        _, answer = await remote.ask(image, remote.deadline())
        used = tuple(answer.versions)
        right = np.allclose(answer.probabilities, expected(used, image), atol=1e-6)
    except BelowQuorum as error:
        used, right = error.code, error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    results.append((used, right, asyncio.get_running_loop().time() - started))


async def requests(places, member, turns, count):
    results, free = [], asyncio.Semaphore(8)

    async def paced(number):
        async with free:
            await one(remote, number, results)

    async with committee(places, quorum=2, seconds=SECONDS, watched=True, hedge_share=0.05) as remote:
        await remote.probe()
        for number in range(50):
            await one(remote, number, [])
        before = open_resources()
        going = asyncio.create_task(come_and_go(member, turns))
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(paced(number))
                await asyncio.sleep(0.004)
        await going
        return results, before, await settled(before)


@pytest.mark.slow
def test_a_thousand_requests_with_a_member_going_up_and_down():
    members = [Process(name) for name in NAMES]
    replica = Process("branch_0")
    turns = [
        "hang",
        "right",
        "leave",
        "return",
        "flap",
        "slow:0.3",
        "nan",
        "right",
        "leave",
        "return",
        "garbage",
        "right",
        "gone",
        "right",
    ]
    try:
        places = {member.name: member.address for member in members}
        places["branch_0"] = [members[0].address, replica.address]

        async def story():
            outside = open_resources()
            results = await requests(places, members[1], turns, 1000)
            return outside, *results, await settled(outside)

        outside, results, before, after, closed = asyncio.run(story())
    finally:
        for process in [*members, replica]:
            process.end()
    assert len(results) == 1000
    assert [used for used, right, _ in results if not right] == []
    assert max(seconds for *_, seconds in results) < SECONDS + SLACK
    assert {used for used, *_ in results} >= {("branch_0", "branch_1", "branch_2"), ("branch_0", "branch_2")}
    assert after[1] <= before[1] and closed[1] == outside[1] == 1
    assert after[0] <= before[0]
    assert closed[0] <= outside[0] + 3  # gRPC keeps these for its event loop


def test_closed_committees_leave_nothing_open():
    member = Process("branch_0")
    try:

        async def once():
            async with committee({"branch_0": member.address}) as remote:
                await remote.ask(IMAGES[0], remote.deadline())

        async def story():
            await once()
            before = open_resources()
            for _ in range(10):
                await once()
            return before, await settled(before)

        before, after = asyncio.run(story())
    finally:
        member.end()
    assert after[0] <= before[0] and after[1] <= before[1]

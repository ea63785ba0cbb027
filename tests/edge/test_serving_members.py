"""A committee of a worker and a substitute for TensorFlow Serving that speaks the Predict API."""

import asyncio

import numpy as np
import pytest

from tests.edge.committees import IMAGE, committee, expected
from tests.edge.faulty_member import EXPORT, Process

NAMES = ["branch_0", "branch_1"]


@pytest.fixture(scope="module")
def both():
    worker, serving = Process("branch_0"), Process("branch_1", module="serving_stand_in")
    yield worker, serving
    worker.end()
    serving.end()


def story(both, word, image=IMAGE, model="served.branch_1"):
    """Give the server a word; return (combined answer, members present)."""
    worker, serving = both
    serving.does(word)
    places = {"branch_0": worker.address, "branch_1": f"{serving.address}/{model}"}

    async def asking():
        async with committee(places, seconds=5.0) as convened:
            await convened.probe()
            return (await convened.ask(image, convened.deadline()))[1], convened.present

    return asyncio.run(asking())


@pytest.mark.slow
@pytest.mark.parametrize("word", ["right", "values"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_committee_mixes_both(both, word, dtype):
    answer, present = story(both, word, IMAGE.astype(dtype))
    assert answer.probabilities == pytest.approx(expected(NAMES), abs=1e-6)
    assert answer.versions == {"branch_0": EXPORT, "branch_1": "served.branch_1/42"} and present == NAMES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("nan", "sent an unusable answer: its logits are not finite"),
        ("classes", "sent an unusable answer: its logits must be float32[2, 5], got float32[2, 4]"),
        ("nothing", "sent an unusable answer: it has no logits"),
        ("unknown", "refused the request: NOT_FOUND"),
    ],
)
def test_its_faults_are_a_members_faults(both, word, reason):
    answer, _ = story(both, word)
    assert answer.missing == {"branch_1": reason}
    assert answer.probabilities == pytest.approx(expected(["branch_0"]), abs=1e-6)


@pytest.mark.slow
def test_it_is_ready_when_a_version_is_available(both):
    assert story(both, "unready")[1] == ["branch_0"]
    assert story(both, "right", model="another")[1] == ["branch_0"]

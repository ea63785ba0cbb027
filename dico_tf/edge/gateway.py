"""The committee as one model of the Open Inference Protocol: what is asked is checked, asked of all, and told as one."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Mapping

import numpy as np

from dico_tf.data import pictures
from dico_tf.edge import guard, tensors
from dico_tf.edge.committee import Committee
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.messages import Answer, Asked, Value
from dico_tf.edge.poll import BelowQuorum, Poll
from dico_tf.edge.service import Metadata, unknown
from dico_tf.edge.tally import Tally
from dico_tf.edge.verdict import Verdict
from dico_tf.evaluation.averaging import softmax
from dico_tf.export.manifest import COMMITTEE
from dico_tf.registry import suggestion

OUTPUTS = ("probabilities", "class_id", "logits", "disagreement")  # where none are asked for
BRANCHES, CLASS_NAME = "branch_probabilities", "class_name"  # [B, members used, C] and [B]: only where asked for
INPUTS = ("image", "image_bytes")


class Gateway:
    name = COMMITTEE

    def __init__(self, committee: Committee, limits: guard.Limits, tally: Tally):
        self.committee, self._limits, self._tally = committee, limits, tally
        self._gate = guard.Gate(limits.concurrency)
        manifest = committee.manifest
        about = manifest.member(manifest.branches[0])
        self._id, self._size = manifest.id, about["input_size"]
        self._short = about.get("short_side", self._size)
        self._class_names = about["class_names"]

    def metadata(self, model: str, version: str = "") -> Metadata:
        if model != self.name:
            raise unknown("the model", model, self.name)
        if version not in ("", self._id):
            raise unknown("the version", version, self._id)
        size, classes = self._size, len(self._class_names)
        members = ",".join(self.committee.members)
        return Metadata(
            name=self.name,
            version=self._id,
            inputs=(("image", "FP32", (-1, size, size, 3)), ("image_bytes", "BYTES", (-1,))),
            outputs=(
                *((name, "FP32", (-1, classes)) for name in ("probabilities", "logits")),
                ("class_id", "INT64", (-1,)),
                ("disagreement", "FP32", (-1,)),
                (BRANCHES, "FP32", (-1, -1, classes)),
                (CLASS_NAME, "BYTES", (-1,)),
            ),
            properties={
                "class_names": json.dumps(self._class_names),
                "members": members,
                "quorum": str(self.committee.rules.quorum),
                "average": self.committee.manifest.average,
            },
            platform="dico_tf_gateway",
        )

    async def infer(self, asked: Asked, deadline: float) -> Answer:
        deadline = self.committee.deadline(deadline)  # decoding counts
        self._check(asked)
        with self._gate.entered():
            image = await _in_time(self._image(asked.inputs), deadline)
            try:
                poll, told = await self.committee.ask(image, deadline)
            except BelowQuorum as error:
                self._tally.count(error.poll)
                raise
        self._tally.count(poll)
        return self._answer(asked, poll, told)

    def _check(self, asked: Asked) -> None:
        self.metadata(asked.model, asked.version)
        for name in asked.outputs:
            if name not in (known := (*OUTPUTS, BRANCHES, CLASS_NAME)):
                raise invalid(f"no output {shown(name)}; {suggestion(name, known)}")
        if len(asked.inputs) != 1 or not set(asked.inputs) <= set(INPUTS):
            raise invalid(f"the inputs are {shown(', '.join(asked.inputs))}: give either image or image_bytes")

    async def _image(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """uint8 or float32 [B, H, W, 3]"""
        ((name, array),) = inputs.items()
        if len(array) > self._limits.batch:
            raise invalid(f"{len(array)} images are too many for one request: {self._limits.batch} at most")
        if name == "image":
            return self._pixels(array)
        if array.dtype.kind != "O" or array.ndim != 1:
            raise invalid("image_bytes must be BYTES of shape [B]: one JPEG or PNG each")
        decode = functools.partial(guard.picture, size=self._size, short=self._short, limits=self._limits)
        loop = asyncio.get_running_loop()
        return np.stack(await asyncio.gather(*(loop.run_in_executor(pictures.pool(), decode, one) for one in array)))

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        expected = f"FP32 or UINT8 of shape [B, {self._size}, {self._size}, 3]"
        if image.dtype not in (np.float32, np.uint8) or image.shape[1:] != (self._size, self._size, 3):
            raise invalid(f"image is {tensors.datatype(image)} of shape {list(image.shape)}: give {expected}")
        if image.dtype == np.float32 and not (image.min() >= 0 and image.max() <= 255):
            raise invalid("image holds values beyond 0 to 255: give raw pixels, the network normalises them itself")
        return image

    def _answer(self, asked: Asked, poll: Poll, told: Verdict) -> Answer:
        rare = {
            BRANCHES: lambda: softmax(np.stack([vote.logits for vote in poll.votes.values()], 1)).astype(np.float32),
            CLASS_NAME: lambda: tensors.strings([self._class_names[c] for c in told.class_id]),
        }
        names = asked.outputs or OUTPUTS
        outputs = {name: rare[name]() if name in rare else getattr(told, name) for name in names}
        export = self._export(told)
        return Answer(self.name, outputs, export, asked.id, parameters(told, export))

    def _export(self, told: Verdict) -> str:
        """Of all members used, or that there were several."""
        mixed = self.committee.rules.mixed_exports and set(told.versions.values()) != {self._id}
        return "mixed" if mixed else self._id


async def _in_time(decoding: Awaitable[np.ndarray], deadline: float) -> np.ndarray:
    try:
        async with asyncio.timeout_at(deadline):
            return await decoding
    except TimeoutError:
        raise EdgeError("DEADLINE_EXCEEDED", "the images were not decoded by the deadline: send fewer") from None


def parameters(told: Verdict, export: str) -> dict[str, Value]:
    """Flat, as the protocol wants them: lists with commas, and one parameter for each member's version and reason."""
    return {
        "export": export,
        "used": ",".join(told.versions),
        "late": ",".join(told.late),
        "missing": ",".join(told.missing),
        **{f"version.{name}": version for name, version in told.versions.items()},
        **{f"reason.{name}": reason for name, reason in told.missing.items()},
    }

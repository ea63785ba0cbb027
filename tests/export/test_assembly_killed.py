"""Whoever puts together a committee of any members and is killed leaves the export that there was."""

import dataclasses
import os
import random
import select
import signal
import time
from types import SimpleNamespace

from dico_tf.committee.decision import Committee
from dico_tf.committee.saved import Calibration, Saved
from dico_tf.committee.saved import Member as Said
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import LiteRT
from dico_tf.export import assembly, manifest

NAMES = ("small", "large")
SAVED = Saved(
    committee=Committee(members=NAMES, gates=(0.5,)),
    members=tuple(Said(name=n, kind="tflite", source=n, sha256="", input_size=8, cost=Cost(macs=1)) for n in NAMES),
    classes=2,
    class_names=("a", "b"),
    calibration=Calibration(name="none", fingerprint="f", images=1),
)


def found(folder, name, megabytes):
    """As `gathered` finds a LiteRT file, which is copied whatever is in it."""
    path = folder / f"{name}.tflite"
    path.write_bytes(os.urandom(megabytes << 20))
    file = LiteRT(path=path, kind="float32", pixels="0..255", output="o", place=0)
    member = SimpleNamespace(
        name=name, kind="tflite", source=str(path), checksum=name, input_size=8, short_side=8, file=file
    )
    return SimpleNamespace(member=member, outputs="logits", dropped=0, macs=1, params=1, batch=1)


def test_killed_at_any_moment_it_leaves_one_whole_export(tmp_path, monkeypatch):
    members, out = [found(tmp_path, name, n + 1) for n, name in enumerate(NAMES)], tmp_path / "o"

    def written(words):
        told = dataclasses.replace(SAVED.calibration, name=words)
        monkeypatch.setattr(assembly, "gathered", lambda _: (dataclasses.replace(SAVED, calibration=told), members))
        assembly.export("committee.json", out, formats=("tflite",), say=lambda _: None)

    def checked():
        """All of it is of one export; its words."""
        shown = manifest.load(out)
        manifest.verify(shown)
        words = shown.content["source"]["committee"]["name"]
        assert f"1 images of {words}." in (out / "README.md").read_text()
        assert {path.name for path in out.iterdir() if path.name[0] != "."} == {"manifest.json", "README.md", "tflite"}
        return words

    begun = time.perf_counter()
    written("first")
    last, moments, seen = 2 * (time.perf_counter() - begun), random.Random(0), {checked()}
    for turn in range(25):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                for n in range(1000):
                    written(f"{turn}.{n}")
                    os.write(writer, b"!")
            finally:
                os._exit(1)
        assert select.select([reader], [], [], 60)[0]  # it has written once, and is at it again
        time.sleep(moments.uniform(0.0, last))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        os.close(reader), os.close(writer)
        seen.add(checked())
    assert len(seen) == 26  # each of its own exporter
    written("last")
    assert checked() == "last" and not list(out.glob(".making-*")) and len(list(out.glob(".export-*"))) == 1

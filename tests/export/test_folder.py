"""A new export takes the old one's place at once, and a killed exporter leaves the old one as it was."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dico_tf.errors import UserError
from dico_tf.export import folder, tf_serving
from dico_tf.files import manifest
from tests.export.conftest import ROOT, script
from tests.killed import kills


def write(out: Path, words: str, lite: bool = True) -> None:
    """An export whose every file holds the same words, and its version for the server."""
    with folder.making(out) as place:
        made = place / "export"
        (made / "tflite").mkdir(parents=True)
        (made / "saved_model/branch_0/variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data"):
            (made / "saved_model/branch_0" / name).write_text(words)
        (made / "tflite/branch_0_float32.tflite").write_text(words)
        (made / "README.md").write_text(words)
        files = {
            "saved_model": manifest.measure(made / "saved_model/branch_0", made),
            "float32": manifest.measure(made / "tflite/branch_0_float32.tflite", made),
        }
        if not lite:
            shutil.rmtree(made / "tflite")
            del files["float32"]
        member = {
            "name": "branch_0",
            "kind": "run",
            "input_size": 8,
            "class_names": ["a"],
            "params": 1,
            "macs": 1,
            "files": files,
            "metrics": {},
        }
        content = {"id": words, "members": [member], "committee": {"members": ["branch_0"], "average": "logits"}}
        (made / manifest.NAME).write_text(manifest.text(content))
        for name in ("branch_0", "committee"):
            shutil.copytree(made / "saved_model/branch_0", place / "staged" / name)
        folder.publish(out, made)
        tf_serving.publish(out, place / "staged", keep=2)


def check(out: Path) -> str:
    """Check that all files belong to one export and that all served versions are complete. Return the export's id."""
    export = manifest.load(out)
    manifest.verify(export)
    assert (out / "README.md").read_text() == export.id
    served = out / "tf_serving"
    for version in tf_serving.versions(served, "branch_0"):
        files = sorted(path for path in (served / "branch_0" / str(version)).rglob("*") if path.is_file())
        assert len(files) == 3 and len({path.read_text() for path in files}) == 1
    if (served / "models.config").exists():
        for version in (served / "models.config").read_text().split("versions: ")[1:]:
            for name in ("branch_0", "committee"):
                assert int(version.split()[0]) in tf_serving.versions(served, name)
    return export.id


def test_an_export_shows_all_of_it_and_the_next_one_all_of_that(tmp_path):
    write(tmp_path, "first")
    assert check(tmp_path) == "first"
    write(tmp_path, "second")
    assert check(tmp_path) == "second"
    assert tf_serving.versions(tmp_path / "tf_serving", "branch_0") == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == [
        "README.md",
        "manifest.json",
        "saved_model",
        "tf_serving",
        "tflite",
    ]
    assert len(list(tmp_path.glob(".export-*"))) == 1 and not list(tmp_path.glob(".making-*"))


@pytest.mark.parametrize("every", [19, pytest.param(2, marks=pytest.mark.slow)])
def test_an_exporter_killed_at_any_moment_leaves_an_export(tmp_path, every):
    write(tmp_path, "0")
    seen = []
    for moment in kills(lambda: write(tmp_path, f"{len(seen)}"), every):
        seen.append(check(tmp_path))
        assert moment < 2000
    assert seen[0] == "0" and len(set(seen)) > 1  # some kills met the links before they changed, some after
    assert check(tmp_path) == str(len(seen)) and not list(tmp_path.glob(".making-*"))


@pytest.mark.parametrize("before", ["nothing", "an export without LiteRT files"])
def test_a_killed_exporter_leaves_no_manifest_without_its_files(tmp_path, before):
    write(tmp_path / "new", "new")
    if before != "nothing":
        write(tmp_path / "old", "old", lite=False)

    def prepare(name: str) -> Path:
        out = tmp_path / name
        if before == "nothing":
            out.mkdir()
        else:
            shutil.copytree(tmp_path / "old", out, symlinks=True)
        shutil.copytree(tmp_path / "new" / folder.CURRENT, out / "made")
        return out

    outs, seen = [prepare("0")], set()
    for moment in kills(lambda: folder.publish(outs[-1], outs[-1] / "made")):
        export = manifest.load(outs[-1]) if (outs[-1] / manifest.NAME).exists() else None
        seen.add(export and export.id)
        for file in export.member("branch_0")["files"].values() if export else ():
            assert (outs[-1] / file["path"]).exists()
        outs.append(prepare(str(moment)))
    assert seen == {None if before == "nothing" else "old", "new"}
    assert manifest.load(outs[-1]).id == "new"


def test_readers_find_one_export_while_others_take_its_place(tmp_path):
    write(tmp_path, "0")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(writer)
            os.set_blocking(reader, False)
            n = 0
            while not _ended(reader):
                write(tmp_path, str(n := n + 1))
        finally:
            os._exit(0)
    os.close(reader)
    try:
        seen, until = set(), time.monotonic() + 120
        while len(seen) < 6 and time.monotonic() < until:
            export, content = manifest.read(tmp_path, "branch_0", "float32")
            assert content.decode() == export.id
            seen.add(export.id)
    finally:
        os.close(writer)
        os.waitpid(child, 0)
    assert len(seen) == 6


def _ended(pipe: int) -> bool:
    """The other end of a pipe that does not block was closed."""
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def test_two_exporters_do_not_meet(tmp_path):
    with folder.making(tmp_path), pytest.raises(UserError, match="another process writes to --out"):
        write(tmp_path, "other")


def test_a_fault_leaves_nothing_behind(tmp_path):
    write(tmp_path, "first")
    with pytest.raises(RuntimeError), folder.making(tmp_path) as place:
        (place / "half").write_text("...")
        raise RuntimeError
    assert check(tmp_path) == "first" and not list(tmp_path.glob(".making-*"))


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, FULL), RuntimeError(f"SaveV2: {FULL} [Op]")])
def test_what_the_disk_refuses_is_a_sentence(tmp_path, fault):
    write(tmp_path, "first")
    with pytest.raises(UserError, match=r"--out=.*: No space left on device; .*make room"), folder.making(tmp_path):
        raise fault
    assert check(tmp_path) == "first" and not list(tmp_path.glob(".making-*"))


@pytest.mark.slow
def test_export_py_killed_at_work_leaves_the_old_export(run, exported, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(exported, out, symlinks=True)
    before = (out / "manifest.json").read_bytes()
    words = [sys.executable, "export.py", f"--workdir={run}", f"--out={out}", "--compare_images=0"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    while "branch_1" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.wait()
    assert list(out.glob(".making-*")) and (out / "manifest.json").read_bytes() == before
    manifest.verify(manifest.load(out))
    assert tf_serving.versions(out / "tf_serving", "branch_0") == [1]
    output = script(*words[1:], "--formats=saved_model")
    assert "version 2 in" in output and not list(out.glob(".making-*")) and not (out / "tflite").exists()
    assert manifest.load(out).id == json.loads(before)["id"]
    assert "rolled back to version 1: " in script("export.py", f"--out={out}", "--stable=1")

"""Export a run or a committee: dico export --workdir=W --out=O"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from dico_tf import flags, startup
from dico_tf.config import option
from dico_tf.errors import UserError
from dico_tf.export.formats.registry import DEFAULT, FORMATS, require
from dico_tf.registry import suggestion

QUANTISE = {"none": "float32", "float16": "float16", "dynamic": "dynamic", "int8": "int8"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Flags of `export` that a run does not have."""

    out: str = option("", "folder of the export; exporting to it again replaces its content in one step")
    formats: tuple[str, ...] = option(DEFAULT, f"formats to write: {', '.join(FORMATS)}")
    quantise: tuple[str, ...] = option(
        ("none",),
        f"kinds of LiteRT files: {', '.join(QUANTISE)} (none = float32; int8 is calibrated on training images)",
    )
    tflite_batch: int = option(
        1, "images per call of a LiteRT file; 0 = any number, with which some networks are slower"
    )
    max_accuracy_drop: float = option(
        1.0,
        "percentage points of accuracy that a converted file may lose; one that loses significantly more is "
        "replaced by a safer kind",
    )
    fallback: bool = option(
        False, "without effect, for old commands: a LiteRT file that is too inaccurate is always replaced"
    )
    compare_images: int = option(
        500,
        "validation images, or test images if there are none, on which converted files are compared with their "
        "network; 0 = compare nothing",
    )
    calibration_images: int = option(200, "training images with which int8 files are calibrated")
    keep_versions: int = option(
        2, "number of versions that TensorFlow Serving loads, counting the new one; older ones are deleted"
    )
    committee: str = option(
        "", "committee.json to export: its members are branches of the run or, without --workdir, models of any kind"
    )
    stable: int = option(0, "roll TensorFlow Serving back to this version, and export nothing; 0 = export")


COMMITTEE_FLAGS = ("out", "formats", "committee", "stable")  # the flags that an export without a run has


SCRIPT = flags.Script(
    name="export",
    about="Writes the networks of a run, or the members of a committee, as files for serving, with manifest.json.",
    fields=(*flags.pick("workdir", "data_dir"), *flags.of(ExportOptions)),
)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    faults = [*_faults(values)]
    if faults:
        raise UserError("\n".join(faults))
    if values["workdir"] and not values["stable"]:
        from dico_tf.training.workdir import record

        record(values["workdir"])  # fail before TensorFlow is imported, which takes seconds
    require(values["formats"])
    startup.tensorflow()
    out = Path(values["out"])
    if values["stable"]:
        from dico_tf.export import tf_serving

        print(f"rolled back to version {values['stable']}: {', '.join(tf_serving.roll_back(out, values['stable']))}")
        return
    if not values["workdir"]:
        from dico_tf.export import export_committee

        export_committee.export(values["committee"], out, formats=values["formats"], say=_say)
        print(f"exported to {out}; see {out / 'README.md'}")
        return
    from dico_tf.export import run_gates
    from dico_tf.export.choose_kinds import Conversions
    from dico_tf.export.export_run import export
    from dico_tf.training.build import trained_run

    conversions = Conversions(
        kinds=tuple(dict.fromkeys(QUANTISE[name] for name in values["quantise"])),
        batch=values["tflite_batch"],
        max_accuracy_drop=values["max_accuracy_drop"],
    )
    run = trained_run(values["workdir"])
    export(
        run,
        out,
        formats=values["formats"],
        conversions=conversions,
        compare=values["compare_images"],
        calibrate=values["calibration_images"],
        data_dir=values["data_dir"],
        keep_versions=values["keep_versions"],
        say=_say,
        committee=run_gates.load_committee(values["committee"], run) if values["committee"] else None,
    )
    print(f"exported to {out}; see {out / 'README.md'}")


def _say(text: str) -> None:
    print(text, flush=True)


def _faults(values: dict) -> Iterator[str]:
    """Yield a message for every mistake in the flags."""
    if not values["out"]:
        yield "--out is needed: the folder to export to"
    if not values["workdir"] and not values["stable"]:
        if not values["committee"]:
            yield "--workdir is needed, the folder of a trained run; or --committee, a committee.json of any members"
        changed = [field.name for field in dataclasses.fields(ExportOptions) if values[field.name] != field.default]
        for name in (name for name in changed if name not in COMMITTEE_FLAGS and values["committee"]):
            yield (
                f"--{name} is for the networks of a run: give --workdir, or leave it out; other members are exported "
                "unchanged, or in float32 if they are converted"
            )
    for name, known in (("formats", tuple(FORMATS)), ("quantise", tuple(QUANTISE))):
        if not values[name]:
            yield f"--{name} is empty: give at least one of {', '.join(known)}"
        for word in values[name]:
            if word not in known:
                yield f"--{name}={word} is unknown; {suggestion(word, known)}"
    if "tflite" not in values["formats"] and values["quantise"] != ExportOptions.quantise:
        yield f"--quantise={','.join(values['quantise'])} makes LiteRT files: add tflite to --formats"
    minima = {
        "tflite_batch": 0,
        "max_accuracy_drop": 0,
        "compare_images": 0,
        "calibration_images": 1,
        "keep_versions": 1,
    }
    for name, smallest in (minima | {"stable": 0}).items():
        if not values[name] >= smallest:
            yield f"--{name}={values[name]} must be at least {smallest}"

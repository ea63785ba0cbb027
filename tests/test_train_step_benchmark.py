"""The benchmark of a training step sets threads as training does."""

import subprocess

from benchmarks import train_step
from dico_tf import flags
from dico_tf.data.image_decoding import cores
from dico_tf.training import strategy


def test_threads_are_shared_before_the_network_is_built_and_the_peak_uses_all_cores(monkeypatch):
    calls = []
    nothing = lambda: None  # noqa: E731
    monkeypatch.setattr(strategy, "share_threads", lambda splits: calls.append(("threads", splits)) or splits == 4)
    monkeypatch.setattr(
        train_step, "subjects", lambda settings, s: calls.append(("network", s)) or {"bare": nothing, "full": nothing}
    )
    monkeypatch.setattr(train_step, "peak_functions", lambda _, lanes: calls.append(("peak", lanes)) or [(nothing, 1)])
    for splits, lanes in ((4, cores()), (1, 1)):
        calls.clear()
        train_step.measure(train_step.Measurement(model="wrn_tiny", steps=1), splits)
        assert calls == [("threads", splits), ("network", splits), ("peak", lanes)]


def test_each_number_of_branches_is_measured_in_a_process_of_its_own(monkeypatch):
    commands = []

    def run(words):
        commands.append(flags.parse(train_step.SCRIPT, words[3:])[0])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(train_step.subprocess, "run", run)
    train_step.main(["--splits=1,4", "--batch_size=16"])
    assert [(values["splits"], values["batch_size"]) for values in commands] == [((1,), 16), ((4,), 16)]

"""Promises of the project, each with one line that breaks it and the tests that must notice."""

from typing import NamedTuple


class Promise(NamedTuple):
    """A promise, the edit `old` -> `new` that breaks it, and the tests that guard it.

    `fast` are tests of make test; `slow` those of make test-all, for a promise that no fast test guards.
    """

    text: str
    file: str
    old: str
    new: str
    fast: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()


PROMISES = (
    Promise(
        "A branch's width is the published one: the whole's by the root of S, rounded down.",
        "dico_tf/divide/rules.py",
        "return math.floor(width / math.sqrt(splits) + offset)",
        "return math.ceil(width / math.sqrt(splits) + offset)",
        fast=("tests/divide/test_rules.py",),
    ),
    Promise(
        "Branches that start from slices of a network have different channels, as far as it has enough.",
        "dico_tf/divide/networks/slices.py",
        "turns = sorted(range(len(order)), key=lambda n: ((n - branch) % branches, n))",
        "turns = sorted(range(len(order)), key=lambda n: (n % branches, n))",
        fast=(
            "tests/divide/networks/test_slices.py::"
            "test_branches_take_turns_in_the_order_and_share_only_what_does_not_suffice",
        ),
    ),
    Promise(
        "Agreement is the Jensen-Shannon divergence of all branches.",
        "dico_tf/cotrain/losses.py",
        "mean_of_entropies = -ops.mean(ops.sum(ops.exp(log_p) * log_p, axis=-1), axis=1)",
        "mean_of_entropies = -ops.max(ops.sum(ops.exp(log_p) * log_p, axis=-1), axis=1)",
        fast=("tests/cotrain/test_losses.py",),
    ),
    Promise(
        "A submodel's answer teaches the others and learns nothing from being a teacher.",
        "dico_tf/cotrain/losses.py",
        "answers = ops.stop_gradient(kind.answer(logits))",
        "answers = kind.answer(logits)",
        fast=("tests/cotrain/test_submodels.py::test_gradients_are_the_published_ones_and_none_flows_into_a_teacher",),
    ),
    Promise(
        "A view depends on the seed, the epoch, the image and the branch.",
        "dico_tf/views/counter_rng.py",
        "self._state, self._scope = _hashed(_VIEW, seed, branch, epoch, index), ",
        "self._state, self._scope = _hashed(_VIEW, seed, epoch, index), ",
        fast=("tests/views/test_image_views.py::test_view_depends_on_seed_epoch_index_and_branch_alone",),
    ),
    Promise(
        "Mixed images have labels mixed by the same share.",
        "dico_tf/views/mixing.py",
        "lambda target: share * target + (1.0 - share) * tf.gather(target, order), targets",
        "lambda target: target, targets",
        fast=("tests/views/test_mixing.py::test_mixup_mixes_images_and_targets_by_one_lambda_and_one_order",),
    ),
    Promise(
        "Two replicas learn what one device learns: the loss is a mean over the global batch.",
        "dico_tf/cotrain/dico.py",
        "self.optimizer.scale_loss(objective / (size * self.settings.accumulation * replicas))",
        "self.optimizer.scale_loss(objective / (size * self.settings.accumulation))",
        fast=("tests/training/test_devices.py::test_two_replicas_learn_what_one_device_learns",),
    ),
    Promise(
        "A run that goes on takes the images of the epoch that were left.",
        "dico_tf/data/epoch_order.py",
        "rows.reshape(steps, workers, replicas, -1, *rest)[first_step:, worker])",
        "rows.reshape(steps, workers, replicas, -1, *rest)[: steps - first_step, worker])",
        fast=("tests/data/test_epoch_order.py::test_resuming_in_the_middle_of_an_epoch_gives_what_was_left_of_it",),
    ),
    Promise(
        "A damaged checkpoint is refused, not loaded.",
        "dico_tf/files/arrays.py",
        "if checksum(path / name)[0] != sha256:",
        "if not sha256:",
        fast=("tests/training/test_checkpoints.py::test_every_truncation_is_refused",),
    ),
    Promise(
        "A checkpoint appears whole or not at all: the old one lasts until the new one is in its place.",
        "dico_tf/files/atomic.py",
        "return aside if not path.exists() and aside.exists() else path",
        "return path",
        fast=("tests/training/test_checkpoints.py::test_a_writer_killed_between_two_renames_loses_nothing",),
    ),
    Promise(
        "Validation and test images never meet, and no training image is validated with.",
        "dico_tf/data/splits.py",
        "split.subset(np.sort(order[count:]))",
        "split.subset(np.sort(order))",
        fast=("tests/data/test_splits.py",),
    ),
    Promise(
        "The best checkpoint is the one with the best validation score.",
        "dico_tf/training/loop.py",
        'if not chosen or (self.best and score <= self.best["score"]):',
        "if not chosen:",
        fast=("tests/training/test_runs.py::test_the_best_checkpoint_is_that_of_the_best_validation",),
    ),
    Promise(
        "Every file of an export is checked by its digest before it answers.",
        "dico_tf/files/manifest.py",
        "if content is not None and hashlib.sha256(content).hexdigest() == file.sha256:",
        "if content is not None:",
        fast=("tests/files/test_manifest.py::test_the_bytes_that_are_read_are_checked",),
    ),
    Promise(
        "An answer that contains NaN or infinity is never correct.",
        "dico_tf/committee/decision.py",
        "return (answers.argmax(-1) == labels) & np.isfinite(answers).all(-1)",
        "return answers.argmax(-1) == labels",
        fast=("tests/committee/test_decision.py::test_an_answer_that_is_no_number_is_never_right",),
    ),
    Promise(
        "A cascade stops only where the confidence reaches the gate, and NaN passes none.",
        "dico_tf/committee/decision.py",
        "return (confidences >= gates) & (gates != NEVER)",
        "return ~(confidences < gates) & (gates != NEVER)",
        fast=("tests/committee/test_decision.py",),
    ),
    Promise(
        "A guaranteed committee errs at most at the given risk, with the given confidence.",
        "dico_tf/committee/guarantee.py",
        "return binomial_tail(losses, images, guarantee.risk) <= 1 - guarantee.confidence",
        "return binomial_tail(losses, images, guarantee.risk) <= guarantee.confidence",
        fast=("tests/committee/test_guarantee.py",),
    ),
    Promise(
        "Below the quorum there is an error and no answer.",
        "dico_tf/edge/members/ask_all.py",
        "    if len(answers.votes) < quorum:\n",
        "    if not answers.votes:\n",
        fast=("tests/edge/test_ask_all.py",),
    ),
    Promise(
        "An answer is given at the deadline, whoever is late.",
        "dico_tf/edge/members/ask_all.py",
        "(remaining := deadline - now()) > 0:",
        "(remaining := deadline + 1 - now()) > 0:",
        fast=("tests/edge/test_ask_all.py",),
    ),
    Promise(
        "Only the token itself opens a server that has one.",
        "dico_tf/edge/server/access.py",
        'return not token or (right and scheme.lower() == "bearer")',
        'return not token or scheme.lower() == "bearer"',
        fast=("tests/edge/test_limits.py::test_only_the_token_itself_is_let_in",),
    ),
    Promise(
        "An exported file that loses significantly more accuracy than allowed is replaced by a safer kind.",
        "dico_tf/export/choose_kinds.py",
        'if measured["p_value"] < comparison.SIGNIFICANCE else ""',
        'if measured["p_value"] < 0 else ""',
        fast=("tests/export/test_choose_kinds.py::test_the_next_safer_kind_takes_the_place_of_a_significant_loss",),
    ),
    Promise(
        "An exported committee averages as the evaluation does.",
        "dico_tf/export/graph.py",
        'AVERAGES[member.average if member.committee else "logits"]',
        'AVERAGES["logits"]',
        fast=("tests/export/test_graph.py::test_a_committee_averages_as_an_evaluation_does",),
    ),
    Promise(
        "An explicit flag wins over a flag file, wherever it stands.",
        "dico_tf/flags.py",
        "return from_files + explicit, positionals",
        "return explicit + from_files, positionals",
        fast=("tests/test_flags.py", "tests/test_flagfiles.py"),
    ),
    Promise(
        "A user's mistake ends a command with one message and status 2.",
        "dico_tf/flags.py",
        'sys.stderr.write(f"{program}: {error}\\n")\n        status = 2',
        'sys.stderr.write(f"{program}: {error}\\n")\n        status = 1',
        fast=("tests/test_flags.py::test_a_script_ends_with_the_status_of_what_happened",),
    ),
    Promise(
        "Void pixels are neither right nor wrong.",
        "dico_tf/evaluation/segmentation.py",
        "valid = masks != VOID\n    truth, predicted",
        "valid = masks >= 0\n    truth, predicted",
        fast=("tests/evaluation/test_segmentation.py",),
    ),
    Promise(
        "Classes of a folder are numbered in the order of their names.",
        "dico_tf/data/folder_layout.py",
        "return sorted(entry.name for entry in entries if",
        "return list(entry.name for entry in entries if",
        fast=("tests/data/test_folder.py::test_classes_are_sorted_by_name_and_a_fifth_of_each_is_drawn_for_the_test",),
    ),
    Promise(
        "A PyTorch file can name nothing but tensors, their storages and dictionaries.",
        "dico_tf/files/inert_pickle.py",
        "        if name not in self.names:\n            raise self.refuse(name)",
        "        if name not in self.names:\n            return self.stack.append(name)",
        fast=(
            "tests/files/test_inert_pickle.py::test_names_that_are_not_listed_are_refused_whether_or_not_they_are_called",
        ),
    ),
    Promise(
        "Sizes in a PyTorch file are compared with the file before memory is allocated.",
        "dico_tf/files/torch_tensors.py",
        "if count < 0 or storage.byte_count > self.size:",
        "if count < 0:",
        fast=("tests/files/test_torch_files.py::test_sizes_are_checked_before_memory_is_allocated",),
    ),
    Promise(
        "The seed of the trials takes no part in a comparison of arms.",
        "dico_tf/compare/plan.py",
        "first = TUNING_SEED + 1 if grid.points else 0",
        "first = 0",
        fast=("tests/compare/test_run.py::test_arms_are_tuned_with_one_seed_and_compared_with_others",),
    ),
    Promise(
        "All conclusions about several arms together are wrong in 5 % of comparisons at most.",
        "dico_tf/compare/paired.py",
        "min(1.0, (len(p_values) - rank) * p_values[position])",
        "min(1.0, p_values[position])",
        fast=(
            "tests/compare/test_paired.py::test_equal_arms_are_called_different_in_five_percent_of_comparisons_at_most",
        ),
    ),
    Promise(
        "The interval of a comparison allows for other seeds and for other test images.",
        "dico_tf/compare/paired.py",
        "error = math.sqrt(of_subsets / trainings + of_images / images)",
        "error = math.sqrt(of_subsets / trainings)",
        fast=("tests/compare/test_paired.py::test_the_interval_is_that_of_the_formula_on_known_numbers",),
    ),
    Promise(
        "Values that trials chose for an arm stay when a comparison continues.",
        "dico_tf/compare/run.py",
        "if self.plan.chosen(arm.name) is not None or any(",
        "if any(",
        fast=("tests/compare/test_run.py::test_what_has_finished_is_not_run_again_and_values_stay_chosen",),
    ),
)

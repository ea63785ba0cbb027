"""Lines of dico_tf that each tier of the tests runs, by room, beside those of before the tiers.

python -m tests.coverage_of_tiers             runs both tiers (an hour or more: counting lines takes its time)
python -m tests.coverage_of_tiers FAST SLOW   reads .coverage files that exist (SLOW may be left out)
python -m tests.coverage_of_tiers --record FILE   writes the baseline from a .coverage file

Shares are compared and not lines, as code moves meanwhile. Ends with status 1 where both tiers together run a smaller
share than before, or make test alone less than nine tenths of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "tests/coverage_baseline.json"
RULES = ROOT / "tests/coverage.rc"
TIERS = {"make test": "not slow and not gpu", "make test-all": "slow and not gpu"}
KEPT, SLACK = 0.9, 0.002  # of the baseline's share, by make test; what a few moved lines may change


def run(tier: str, folder: Path) -> Path:
    """Run a tier with its processes under coverage; return the combined data file."""
    data = folder / tier.replace(" ", "_") / ".coverage"
    data.parent.mkdir()
    environment = {**os.environ, "COVERAGE_FILE": str(data)}
    python = [sys.executable, "-m", "coverage"]
    tests = ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", TIERS[tier]]
    subprocess.run([*python, "run", f"--rcfile={RULES}", *tests], cwd=ROOT, env=environment)
    subprocess.run([*python, "combine", f"--rcfile={RULES}"], cwd=ROOT, env=environment, check=True)
    return data


def lines(*files: Path) -> dict[str, tuple[int, int]]:
    """{room: (statements, those of them that ran)} of data files together."""
    counter = coverage.Coverage(data_file=None, config_file=str(RULES))
    for file in files:
        other = coverage.CoverageData(basename=str(file))
        other.read()
        counter.get_data().update(other)
    rooms: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    package = next(
        parent for parent in Path(min(counter.get_data().measured_files())).parents if parent.name == "dico_tf"
    )
    for path in sorted(package.rglob("*.py")):
        if path.stem.endswith("_pb2"):
            continue
        _, statements, _, missing, _ = counter.analysis2(str(path))
        inside = path.relative_to(package).parts
        known = rooms[room := inside[0] if len(inside) > 1 else "dico_tf"]
        rooms[room] = known[0] + len(statements), known[1] + len(statements) - len(missing)
    rooms["total"] = tuple(map(sum, zip(*rooms.values(), strict=True)))
    return dict(rooms)


def share(counts: tuple[int, int] | None) -> float:
    return counts[1] / counts[0] if counts and counts[0] else float("nan")


def compare(fast: dict, both: dict) -> int:
    """Print the table; return the exit status."""
    if not BASELINE.exists():
        sys.exit(f"{BASELINE} does not exist: run an older version under coverage, then give its file to --record")
    before = {room: tuple(counts) for room, counts in json.loads(BASELINE.read_text())["rooms"].items()}
    print(f"{'room':<12}{'before':>10}{'make test':>12}{'both tiers':>12}   lines")
    for room in [*sorted(set(both) - {"total"}), "total"]:
        shares = [share(table.get(room)) for table in (before, fast, both)]
        print(f"{room:<12}{shares[0]:>10.1%}{shares[1]:>12.1%}{shares[2]:>12.1%}   {both[room][0]}")
    goal = share(before["total"])
    lost, thin = share(both["total"]) < goal - SLACK, share(fast["total"]) < KEPT * goal
    print("both tiers run less than before" if lost else "nothing is lost", end="; ")
    print(f"make test runs {share(fast['total']) / goal:.1%} of what ran before, at least {KEPT:.0%} is wanted")
    return int(lost or thin)


def main(words: list[str]) -> int:
    if words[:1] == ["--record"]:
        BASELINE.write_text(json.dumps({"format": 1, "rooms": lines(Path(words[1]))}, indent=1) + "\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="dico_tf_coverage_") as folder:
        files = [Path(word) for word in words] or [run(tier, Path(folder)) for tier in TIERS]
        return compare(lines(files[0]), lines(*files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

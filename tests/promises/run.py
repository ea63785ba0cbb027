"""Break each promise in a copy of the tree and check that its tests fail: python -m tests.promises.run [WORD ...]

With words, only the promises whose text or file contains one of them. Prints one line per promise and a summary.
Ends with status 1 where make test notices fewer than 9 of 10 promises, or both tiers together fewer than all.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.promises.promises import PROMISES, Promise

ROOT = Path(__file__).parents[2]
FAST, SLOW = "not slow and not gpu", "slow and not gpu"
FAILED = 1  # pytest's status where tests ran and some failed; a broken import or an unknown test is another one


def broken(promise: Promise) -> str:
    """Return the file's text with the promise broken."""
    text = (ROOT / promise.file).read_text(encoding="utf-8")
    if (count := text.count(promise.old)) != 1:
        sys.exit(f"{promise.file}: expected exactly once, got {count} times: {promise.old!r}; update {__package__}")
    return text.replace(promise.old, promise.new)


def fails(tests: tuple[str, ...], tier: str, folder: Path) -> bool:
    """Run tests of one tier in `folder`; True where some failed."""
    if not tests:
        return False
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", tier, *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, FAILED):
        sys.exit(f"the tests of a promise did not run: {' '.join(tests)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == FAILED


def main(words: list[str]) -> int:
    chosen = [p for p in PROMISES if not words or any(word in p.text + p.file for word in words)]
    caught = {FAST: 0, SLOW: 0}
    with tempfile.TemporaryDirectory(prefix="dico_tf_promises_") as scratch:
        copy = Path(scratch) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "runs", ".*_cache"))
        for promise in chosen:
            file = copy / promise.file
            whole = file.read_text(encoding="utf-8")
            file.write_text(broken(promise), encoding="utf-8")
            tier = next((t for t, tests in ((FAST, promise.fast), (SLOW, promise.slow)) if fails(tests, t, copy)), "")
            file.write_text(whole, encoding="utf-8")
            if tier:
                caught[tier] += 1
            seen = {FAST: "make test", SLOW: "make test-all", "": "NOBODY"}[tier]
            print(f"{seen:<14} notices: not {promise.text[0].lower()}{promise.text[1:]}", flush=True)
    total = sum(caught.values())
    print(f"{len(chosen)} promises: make test notices {caught[FAST]}, both tiers {total}")
    return int(total < len(chosen) or caught[FAST] < 0.9 * len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

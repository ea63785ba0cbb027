"""Timing and output shared by all benchmarks: medians of interleaved repeats, one JSON object per line."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1


def machine() -> dict[str, Any]:
    """Return what the results depend on: processor, cores this process may use, load, versions."""
    import keras
    import tensorflow as tf

    return {
        "cpu": _processor().get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "bf16": has_bfloat16(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def has_bfloat16() -> bool:
    """Return True if the processor has instructions to multiply bfloat16."""
    return bool({"avx512_bf16", "amx_bf16"} & set(_processor().get("flags", "").split()))


def _processor() -> dict[str, str]:
    """Return the first processor of /proc/cpuinfo, or {} if that file does not exist."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().split("\n\n")[0].splitlines() if file.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def turns(functions: Mapping[str, Callable[[], Any]], repeats: int = 5, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each function in every turn; they alternate, so that a disturbance affects all of them."""
    if repeats < 5:
        raise ValueError(f"repeats must be at least 5 for a median, got {repeats}")
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def interleaved(functions: Mapping[str, Callable[[], Any]], repeats: int = 5, warm_up: int = 1) -> dict[str, float]:
    """Return the median seconds of each function; the functions take turns."""
    return {name: statistics.median(times) for name, times in turns(functions, repeats, warm_up).items()}


def emit(
    name: str,
    value: float,
    unit: str,
    bar: float | None = None,
    met: bool | None = None,
    lower: bool = False,
    **more: Any,
) -> None:
    """Print one JSON line: a value, the bar it must reach (with `lower`: not exceed) or None, and the machine."""
    if met is None and bar is not None:
        met = bool(value <= bar if lower else value >= bar)
    line = {"format": FORMAT, "name": name, "value": round(value, 4), "unit": unit, "bar": bar, "met": met}
    print(json.dumps({**line, **more, "machine": machine()}), flush=True)

"""Metrics of a process in Prometheus' text format: counters, gauges and histograms."""

import bisect
import threading
from collections.abc import Callable, Mapping, Sequence

TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics of a process, in the order in which they were registered."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Info | CallbackMetric | Histogram] = {}

    def counter(self, name: str, help: str, *labels: str) -> "Counter":
        return self._add(Counter(name, help, labels))

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> "Gauge":
        return self._add(Gauge(name, help, value))

    def histogram(self, name: str, help: str, *labels: str, buckets: Sequence[float] = SECONDS) -> "Histogram":
        return self._add(Histogram(name, help, labels, buckets))

    def info(self, name: str, help: str, labels: Callable[[], Mapping[str, str]]) -> "Info":
        return self._add(Info(name, help, labels))

    def callback(
        self, name: str, help: str, kind: str, *labels: str, values: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> "CallbackMetric":
        return self._add(CallbackMetric(name, help, kind, labels, values))

    def _add(self, metric):
        if metric.name in self._metrics:
            raise ValueError(f"the metric {metric.name} is registered twice")
        self._metrics[metric.name] = metric
        return metric

    def text(self) -> str:
        """Return the body of a response to GET /metrics."""
        lines = []
        for metric in self._metrics.values():
            lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += metric.lines()
        return "\n".join([*lines, ""])


class Counter:
    """A number that only grows, for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str]):
        self.name, self.help, self._labels = name, help, labels
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def lines(self) -> list[str]:
        with self._lock:
            return [f"{self.name}{_braces(self._labels, key)} {value}" for key, value in self._values.items()]


class Gauge:
    """A number that is computed whenever the metrics are read."""

    kind = "gauge"

    def __init__(self, name: str, help: str, value: Callable[[], float]):
        self.name, self.help, self._value = name, help, value

    def lines(self) -> list[str]:
        return [f"{self.name} {self._value()}"]


class Info:
    """Text in the labels of a gauge that is always 1; the labels are computed whenever the metrics are read."""

    kind = "gauge"

    def __init__(self, name: str, help: str, labels: Callable[[], Mapping[str, str]]):
        self.name, self.help, self._read_labels = name, help, labels

    def lines(self) -> list[str]:
        labels = self._read_labels()
        return [f"{self.name}{_braces(list(labels), list(labels.values()))} 1"]


class CallbackMetric:
    """Values by labels that another object stores; the callback reads them whenever the metrics are read."""

    def __init__(
        self,
        name: str,
        help: str,
        kind: str,
        labels: Sequence[str],
        values: Callable[[], Mapping[tuple[str, ...], float]],
    ):
        self.name, self.help, self.kind, self._labels, self._values = name, help, kind, labels, values

    def lines(self) -> list[str]:
        return [f"{self.name}{_braces(self._labels, key)} {value}" for key, value in self._values().items()]


class Histogram:
    """Counts of observed values up to each bound, for each combination of labels."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], buckets: Sequence[float]):
        self.name, self.help, self._labels, self._bounds = name, help, labels, tuple(buckets)
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], tuple[list[int], float]] = {}

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            counts, total = self._series.get(labels, ([0] * (len(self._bounds) + 1), 0.0))
            counts[bisect.bisect_left(self._bounds, value)] += 1
            self._series[labels] = counts, total + value

    def lines(self) -> list[str]:
        lines = []
        with self._lock:
            for key, (counts, total) in self._series.items():
                cumulative = 0
                for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
                    cumulative += count
                    lines.append(f"{self.name}_bucket{_braces((*self._labels, 'le'), (*key, bound))} {cumulative}")
                for name, value in (("sum", total), ("count", cumulative)):
                    lines.append(f"{self.name}_{name}{_braces(self._labels, key)} {value}")
        return lines


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value, quote=True)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text

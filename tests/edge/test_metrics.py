"""Metrics in the text format of Prometheus."""

import pytest

from dico_tf.edge.server.metrics import Metrics


def test_every_kind_of_metric_has_the_format_of_prometheus():
    metrics = Metrics()
    requests = metrics.counter("asked_total", "Asked.", "code")
    plain = metrics.counter("plain_total", "Of\none \\ line.")
    metrics.gauge("waiting", "Wait.", lambda: 3)
    metrics.info("export_info", "Which.", lambda: {"export": 'a"b'})
    seconds = metrics.histogram("seconds", "Took.", "way", buckets=(0.1, 1))
    requests.add("OK")
    requests.add("OK", by=2)
    plain.add()
    for value in (0.1, 0.5, 7):
        seconds.observe(value, "http")
    assert metrics.text() == "\n".join([
        "# HELP asked_total Asked.", "# TYPE asked_total counter", 'asked_total{code="OK"} 3',
        r"# HELP plain_total Of\none \\ line.", "# TYPE plain_total counter", "plain_total 1",
        "# HELP waiting Wait.", "# TYPE waiting gauge", "waiting 3",
        "# HELP export_info Which.", "# TYPE export_info gauge", r'export_info{export="a\"b"} 1',
        "# HELP seconds Took.", "# TYPE seconds histogram",
        'seconds_bucket{way="http",le="0.1"} 1', 'seconds_bucket{way="http",le="1"} 2',
        'seconds_bucket{way="http",le="+Inf"} 3', 'seconds_sum{way="http"} 7.6', 'seconds_count{way="http"} 3', "",
    ])  # fmt: skip


def test_a_name_cannot_be_registered_twice():
    metrics = Metrics()
    metrics.counter("a", "A.")
    with pytest.raises(ValueError, match="registered twice"):
        metrics.gauge("a", "A.", lambda: 0)

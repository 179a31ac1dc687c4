"""Values of series, by the samples that Prometheus reads: sums that can be added, stored as JSON and shown."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric

from pipeboard_assets.metrics.series import Series, Values

Sample = tuple[str, ...]
"""Name of the sample and the values of its labels, in the order of the declaration; `le` comes last."""


class Figures:
    """Values by sample. Not thread-safe."""

    def __init__(self, values: Mapping[Sample, float] | None = None) -> None:
        self._values: defaultdict[Sample, float] = defaultdict(float, values or {})

    def add(self, series: Series, *labels: str, amount: float = 1) -> None:
        """Count `amount` more."""
        self._increase((series.name, *labels), amount)

    def set(self, series: Series, *labels: str, value: float) -> None:
        """The value now."""
        self._values[series.name, *labels] = value

    def choose(self, series: Series, *labels: str, state: str) -> None:
        """1 for the state that holds, 0 for the others; the states are the last label's values."""
        for each in list(series.labels.values())[-1]:
            self.set(series, *labels, each, value=float(each == state))

    def observe(self, series: Series, *labels: str, value: float) -> None:
        """One more value of a histogram."""
        counts = {bound: float(value <= float(bound)) for bound in series.bounds}
        self.merge(series, *labels, counts=counts, total=value)

    def merge(self, series: Series, *labels: str, counts: Mapping[str, float], total: float) -> None:
        """More values of a histogram: how many lie at or below each bound, and their sum."""
        for bound, count in counts.items():
            self._increase((f"{series.name}_bucket", *labels, bound), count)
        self._increase((f"{series.name}_count", *labels), counts["+Inf"])
        self._increase((f"{series.name}_sum", *labels), total)

    def include(self, other: "Figures") -> None:
        """Add every value of `other`."""
        for sample, value in other._values.items():
            self._increase(sample, value)

    def update(self, other: "Figures") -> None:
        """Take every value of `other` over."""
        self._values.update(other._values)

    def _increase(self, sample: Sample, amount: float) -> None:
        if amount:
            self._values[sample] += amount

    def as_json(self) -> dict[str, float]:
        """Values by the sample as JSON text."""
        return {json.dumps(sample): round(value, 6) for sample, value in self._values.items()}

    @classmethod
    def from_json(cls, pairs: Iterable[tuple[str, float]]) -> "Figures":
        """What `as_json` wrote."""
        return cls({tuple(json.loads(text)): value for text, value in pairs})

    def metrics(self, declared: Iterable[Series]) -> Iterator[Metric]:
        """As prometheus_client writes them. Values of series that are declared no more are left out."""
        seen: defaultdict[str, list[Values]] = defaultdict(list)
        for sample in self._values:
            seen[sample[0]].append(sample[1:])
        for series in declared:
            known = () if series.kind == "gauge" else series.known_labels()
            is_whole = [values for values in seen[series.sample_names[-1]] if len(values) == len(series.labels)]
            labels = list(dict.fromkeys([*known, *is_whole]))
            if labels:
                yield self._metric(series, labels)

    def _metric(self, series: Series, labels: Iterable[Values]) -> Metric:
        metric = Metric(series.name.removesuffix("_total"), series.help, series.kind)
        for values in labels:
            for sample, bound in _samples(series, values):
                names = dict(zip(series.labels, values, strict=True)) | bound
                metric.add_sample(sample[0], names, self._values.get(sample, 0.0))
        return metric


def _samples(series: Series, values: Values) -> Iterator[tuple[Sample, dict[str, str]]]:
    if series.kind != "histogram":
        yield (series.name, *values), {}
        return
    for bound in series.bounds:
        yield (f"{series.name}_bucket", *values, bound), {"le": bound}
    yield (f"{series.name}_sum", *values), {}
    yield (f"{series.name}_count", *values), {}

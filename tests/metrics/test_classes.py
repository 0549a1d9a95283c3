"""The Metric shells: batches, merged states, several processes, what a record says, and the plain functions' values."""

import json
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featvis.errors import UserError
from featvis.metrics import (
    FrechetDistance,
    Identification,
    KernelDistance,
    LogitMagnitude,
    PerImage,
    Plausibility,
    SpectrumDeviation,
    SphereDistance,
    Transferability,
    deep_knn,
    frechet_distance,
    kernel_distance,
    own_logit,
    plausibility,
    spectrum_deviation,
    sphere_distance,
    top1,
)
from featvis.metrics.spectrum import GROUPS

KEYS = {"value", "interval", "n", "higher_is_better", "definition", "absent"}
N = 10


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FEATURES, BANK, LOGITS = normal(N, 6, seed=0), normal(20, 6, seed=1), normal(N, 5, seed=2)
LABELS, BANK_LABELS = torch.arange(N) % 5, torch.arange(20) % 5
SPECTRA, REFERENCE = normal(N, 3, 6, 4, seed=3).abs() + 0.1, normal(3, 6, 4, seed=4).abs() + 0.1
FAST = {"resamples": 50}

CASES = {
    "flat": (
        lambda: Plausibility("flat", BANK, BANK_LABELS, **FAST),
        (FEATURES, LABELS),
        lambda: plausibility(FEATURES, LABELS, BANK, BANK_LABELS, "flat").mean(),
        False,
    ),
    "cosine": (
        lambda: Plausibility("cosine", BANK, BANK_LABELS, **FAST),
        (FEATURES, LABELS),
        lambda: plausibility(FEATURES, LABELS, BANK, BANK_LABELS, "cosine").mean(),
        False,
    ),
    "pooled": (
        lambda: Plausibility("pooled", BANK, BANK_LABELS, **FAST),
        (FEATURES, LABELS),
        lambda: plausibility(FEATURES, LABELS, BANK, BANK_LABELS, "pooled").mean(),
        False,
    ),
    "deep_knn": (
        lambda: Plausibility("deep_knn", BANK, k=3, **FAST),
        (FEATURES, LABELS),
        lambda: deep_knn(FEATURES, BANK, 3).mean(),
        False,
    ),
    "frechet": (
        lambda: FrechetDistance(BANK, **FAST),
        (FEATURES,),
        lambda: frechet_distance(FEATURES, BANK),
        False,
    ),
    "kernel": (lambda: KernelDistance(BANK, **FAST), (FEATURES,), lambda: kernel_distance(FEATURES, BANK), False),
    "sphere": (lambda: SphereDistance(BANK, **FAST), (FEATURES,), lambda: sphere_distance(FEATURES, BANK), False),
    "kernel_subsets": (
        lambda: KernelDistance(BANK, subset_size=4, subsets=7, seed=5, **FAST),
        (FEATURES,),
        lambda: kernel_distance(FEATURES, BANK, subset_size=4, subsets=7, seed=5),
        False,
    ),
    "transfer": (
        lambda: Transferability("vgg16.tv_in1k", **FAST),
        (LOGITS, LABELS),
        lambda: top1(LOGITS, LABELS).mean(),
        True,
    ),
    "logit": (lambda: LogitMagnitude(**FAST), (LOGITS, LABELS), lambda: own_logit(LOGITS, LABELS).mean(), True),
    "spectrum": (
        lambda: SpectrumDeviation(REFERENCE, **FAST),
        (SPECTRA,),
        lambda: spectrum_deviation(SPECTRA.double().mean(0), REFERENCE.double()),
        False,
    ),
}
each = pytest.mark.parametrize(("make", "inputs", "want", "higher"), CASES.values(), ids=CASES)


def feed(metric, inputs, rows):
    metric.update(*(x[rows] for x in inputs))
    return metric


@each
def test_the_class_says_what_the_function_says(make, inputs, want, higher):
    metric = feed(make(), inputs, slice(None))
    torch.testing.assert_close(metric.compute(), want())
    result = metric.result()
    assert set(result) == KEYS | ({"values"} if isinstance(metric, PerImage) else set())
    assert result["value"] == pytest.approx(float(want()))
    assert result["n"] == N
    assert result["absent"] is None
    assert result["higher_is_better"] is higher is type(metric).higher_is_better
    assert len(result["definition"]["text"]) > 20
    assert result["interval"] == list(metric.interval())
    assert result["interval"][0] <= result["value"] <= result["interval"][1]
    assert json.loads(json.dumps(result)) == result
    assert type(metric).is_differentiable is False
    assert type(metric).full_state_update is False


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6, deadline=None)
@given(cuts=st.sets(st.integers(1, N - 1)), middle=st.integers(1, N - 1))
def test_neither_batches_nor_merged_states_change_the_result(name, cuts, middle):
    make, inputs, _, _ = CASES[name]
    whole = feed(make(), inputs, slice(None)).result()
    edges = [0, *sorted(cuts), N]
    batched = make()
    for start, stop in pairwise(edges):
        feed(batched, inputs, slice(start, stop))
    first, second = feed(make(), inputs, slice(middle)), feed(make(), inputs, slice(middle, N))
    second.merge_state(first)  # torchmetrics puts the incoming images first
    for result in (batched.result(), second.result()):
        assert result["n"] == N
        assert result["value"] == pytest.approx(whole["value"], rel=1e-9)
        assert result["interval"] == pytest.approx(whole["interval"], rel=1e-9)


@each
def test_without_images_the_value_is_absent_and_says_why(make, inputs, want, higher):
    result = make().result()
    assert (result["value"], result["interval"], result["n"]) == (None, None, 0)
    assert "no image" in result["absent"] or "at least 2 images, not 0" in result["absent"]
    metric = feed(make(), inputs, slice(None))
    metric.reset()
    assert metric.result() == result


def test_groups_lie_where_the_scores_do():
    """Features of a GPU with labels of the CPU: a mask of one device cannot index the other."""
    metric = Transferability("net")
    metric.add(torch.empty(3, dtype=torch.float64, device="meta"), torch.arange(3))
    assert (metric.values[0].device.type, metric.groups[0].device.type) == ("meta", "meta")


def test_of_one_image_there_is_a_mean_but_no_interval_and_no_distance_between_sets():
    for name in ("cosine", "flat", "deep_knn", "transfer", "logit", "spectrum"):
        result = feed(CASES[name][0](), CASES[name][1], slice(1)).result()
        assert result["value"] is not None
        assert result["interval"] is None
    for name in ("frechet", "kernel", "sphere"):
        metric = feed(CASES[name][0](), CASES[name][1], slice(1))
        assert metric.compute().isnan()
        assert metric.interval() is None
        assert metric.result()["absent"] == "a distance between sets needs at least 2 images, not 1"


def test_images_without_a_neighbour_are_left_out_and_counted():
    metric = Plausibility("pooled", BANK, BANK_LABELS)
    labels = LABELS.clone()
    labels[[1, 4]] = 77
    metric.update(FEATURES, labels)
    result = metric.result()
    kept = [i for i in range(N) if i not in (1, 4)]
    assert result["n"] == 8
    exact = plausibility(FEATURES[kept], LABELS[kept], BANK, BANK_LABELS, "pooled").mean()
    assert result["value"] == pytest.approx(float(exact))
    left_out = result["definition"]["left_out"]
    assert left_out == "2 of 10 images: the reference holds no other image of their class"


def test_where_no_image_has_a_neighbour_the_value_is_absent():
    metric = Plausibility("flat", BANK, BANK_LABELS)
    metric.update(FEATURES, LABELS + 70)
    assert metric.compute().isnan()
    assert metric.result()["absent"] == "the reference holds no other image of any of these classes"
    ids = torch.arange(20) + 1
    deep = Plausibility("deep_knn", BANK, bank_ids=ids, k=20)
    deep.update(BANK, BANK_LABELS, ids)
    assert deep.result()["absent"] == "the reference holds fewer than k=20 other images"


def test_an_image_without_a_direction_is_left_out_of_the_cosine_alone():
    metric = Plausibility("cosine", BANK, BANK_LABELS)
    features = FEATURES.clone()
    features[2] = 0
    metric.update(features, LABELS)
    result = metric.result()
    kept = [i for i in range(N) if i != 2]
    exact = plausibility(FEATURES[kept], LABELS[kept], BANK, BANK_LABELS, "cosine").mean()
    assert result["value"] == pytest.approx(float(exact), rel=1e-12)
    assert (result["n"], np.isnan(result["values"]).nonzero()[0].tolist()) == (N - 1, [2])
    assert result["definition"]["left_out"].endswith("of their class, or their features have length zero")
    with pytest.raises(UserError, match="features of 1 of 10 images have length zero"):
        SphereDistance(BANK).update(features)


def test_what_a_reference_says_alone_may_be_handed_on():
    first = SphereDistance(BANK, **FAST)
    first.update(FEATURES)
    second = SphereDistance(BANK, within=first.within, **FAST)
    second.update(FEATURES)
    assert second.result() == first.result()


def test_facts_stand_in_the_definition():
    metric = Plausibility("deep_knn", BANK, k=4, facts={"layer": "blocks.6", "bank": "sample"})
    assert metric.result()["definition"] | {"text": ""} == {"text": "", "layer": "blocks.6", "bank": "sample", "k": 4}
    assert Transferability("vgg16.tv_in1k").result()["definition"]["classifier"] == "vgg16.tv_in1k"
    assert FrechetDistance(BANK).result()["definition"]["dimension"] == 6
    assert "dimension" not in KernelDistance(BANK).result()["definition"], "which has no floor"


def test_spectra_past_the_bound_are_grouped_and_the_interval_stays_that_of_the_images(monkeypatch):
    n = 6 * GROUPS + 5
    spectra = normal(n, 3, 6, 4, seed=6).abs() + 0.1
    grouped = SpectrumDeviation(REFERENCE)
    for batch in spectra.split(50):
        grouped.update(batch)
    assert len(grouped.sizes[0]) == GROUPS
    monkeypatch.setattr("featvis.metrics.spectrum.GROUPS", n)
    single = SpectrumDeviation(REFERENCE)
    single.update(spectra)
    a, b = grouped.result(), single.result()
    assert a["n"] == b["n"] == n
    assert a["value"] == pytest.approx(b["value"], rel=1e-12)
    assert np.ptp(a["interval"]) == pytest.approx(np.ptp(b["interval"]), rel=0.25)


def test_images_without_energy_have_no_deviation():
    metric = SpectrumDeviation(REFERENCE)
    metric.update(torch.zeros(3, 3, 6, 4))
    assert metric.result()["absent"] == "the images hold no energy at some frequency"
    # One blank image beside another leaves a mean, though not in the resamples that drew it alone.
    metric.reset()
    metric.update(torch.cat([torch.zeros(1, 3, 6, 4), SPECTRA[:1]]))
    result = metric.result()
    torch.testing.assert_close(
        torch.tensor(result["value"]).double(), spectrum_deviation(SPECTRA[0].double(), REFERENCE.double())
    )
    assert np.isfinite(result["interval"]).all()


def test_bad_input_is_said_in_a_sentence():
    with pytest.raises(UserError, match="at least 2 images, not 1"):
        FrechetDistance(BANK[:1])
    with pytest.raises(UserError, match="k=0"):
        Plausibility("deep_knn", BANK, k=0)
    with pytest.raises(UserError, match="only deep_knn"):
        Plausibility("flat", BANK, BANK_LABELS, k=2)
    with pytest.raises(UserError, match="needs labels"):
        Plausibility("flat", BANK)
    for metric, labels in ((KernelDistance(BANK), ()), (Plausibility("deep_knn", BANK), (LABELS,))):
        with pytest.raises(UserError, match="3 dimensions and the reference 6"):
            metric.update(FEATURES[:, :3], *labels)
    with pytest.raises(UserError, match="resize the reference"):
        SpectrumDeviation(REFERENCE).update(SPECTRA[:, :, :5])
    with pytest.raises(UserError, match="not finite"):
        SpectrumDeviation(REFERENCE).update(SPECTRA / 0)


# Each process feeds unequal shares, then one of them nothing at all.
SHARES = ((slice(0, 7), slice(7, N)), (slice(0, N), None))
INPUTS = ((FEATURES,), (LOGITS, LABELS), (SPECTRA,), (LOGITS, LABELS))


def of_all_kinds() -> list:
    return [
        FrechetDistance(BANK, **FAST), LogitMagnitude(**FAST), SpectrumDeviation(REFERENCE, **FAST),
        Identification(5, **FAST),
    ]  # fmt: skip


def shared_results(rank: int, store: str) -> list:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=600)
    )
    results = []
    try:
        for share in SHARES:
            for metric, inputs in zip(of_all_kinds(), INPUTS, strict=True):
                if share[rank] is not None:
                    feed(metric, inputs, share[rank])
                results.append((metric.result(), metric.interval(), float(metric.compute())))
    finally:
        torch.distributed.destroy_process_group()
    return results


def test_two_processes_say_what_one_does(tmp_path: Path, monkeypatch):
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {Path(__file__).stem} as tests; "
    script += "tests.shared_results(1, sys.argv[1])"
    store = str(tmp_path / "store")
    # Gloo asks for this machine's address by its name, which not every machine can tell.
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script, store])
    try:
        shared = shared_results(0, store)
        assert other.wait(600) == 0
    finally:
        other.kill()
    wanted = [feed(m, inputs, slice(None)).result() for m, inputs in zip(of_all_kinds(), INPUTS, strict=True)]
    assert [want["n"] for want in wanted] == [N, N, N, 5], "images, but of units where it scores units"
    for (result, interval, value), want in zip(shared, wanted * len(SHARES), strict=True):
        assert result["n"] == want["n"]
        assert value == result["value"] == pytest.approx(want["value"], rel=1e-9)
        assert list(interval) == result["interval"] == pytest.approx(want["interval"], rel=1e-9)

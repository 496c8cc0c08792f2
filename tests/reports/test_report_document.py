"""The report's schema: exact round trips, and clear refusals."""

import copy
import json

import pytest
from report_fixture import example_report

from actscope.core.errors import BadInput, Corrupt
from actscope.reports import document


@pytest.fixture(scope="module")
def report():
    return example_report(6)


def test_a_report_survives_the_disk_exactly(report, tmp_path):
    document.write(report, tmp_path / "report.json")
    assert document.read(tmp_path / "report.json") == report


def test_the_json_has_the_fields_others_rely_on(report):
    value = json.loads(json.dumps(report.to_json()))
    assert {"features", "tried", "scores", "seconds"} <= set(value)
    for feature in value["features"]:
        assert {
            "latent", "meaning", "detection", "detection_shuffled", "effect", "effect_control", "interval", "caused",
        } <= set(feature)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop("site"), "lacks the field 'site'"),
        (lambda v: v.update(sites=1), "did you mean site"),
        (lambda v: v.update(seconds="long"), "report.seconds is 'long'; expected a number"),
        (lambda v: v.update(seconds=float("nan")), "report.seconds is nan; expected a finite number"),
        (lambda v: v["tried"].update(live=True), "report.tried.live is True; expected a whole number"),
        (lambda v: v["features"][2].update(detection=1.5), r"report.features\[2\].detection is 1.5; expected a share"),
        (lambda v: v["features"][1].update(operation="erase"), "expected one of 'ablate', 'steer'"),
        (lambda v: v["features"][0].update(effect=9.0), "expected the same numbers"),
        (lambda v: v["features"][0].update(interval=[-1, 1], caused=True), "excludes 0"),
        (lambda v: v["features"][0]["steer"].update(interval=[2, 1]), "low end first"),
        (lambda v: v["features"][0].update(latent=v["features"][1]["latent"]), "twice"),
        (lambda v: v["features"][0]["histogram"].update(counts=[1]), "expected one more"),
        (lambda v: v["features"][0]["examples"]["top"][0].update(before=[["a"]]), "expected a list of 2"),
        (lambda v: v["tried"].update(reported=1), "the features it holds"),
    ],
)
def test_what_cannot_be_is_refused_by_name(report, change, said):
    value = copy.deepcopy(report.to_json())
    change(value)
    with pytest.raises(BadInput, match=said):
        document.Report.from_json(value)


def test_a_newer_report_is_refused(report):
    with pytest.raises(Corrupt, match="Install a newer"):
        document.Report.from_json({**report.to_json(), "version": document.VERSION + 1})

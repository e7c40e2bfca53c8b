"""From a results folder to a file: what is stale is made anew, what is a stranger's is kept."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from embedcache.errors import NotAReportError, OtherProtocolError, PathMissingError
from embedcache.evaluation.compare import compare
from embedcache.evaluation.foreign import evaluate_table
from embedcache.reporting.read import read_evidence
from embedcache.reporting.report import report


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def test_report_alone_works_right_after_evaluation(results: Path, tmp_path: Path, parsed) -> None:
    assert not (results / "comparisons.csv").exists()
    out = report([results], tmp_path / "report.html")
    assert (results / "comparisons.csv").exists()
    page = parsed(out.read_text("utf-8"))
    shown = {float(a["data-value"]) for a in page.all("td") if a.get("data-value")}
    written = {
        float(row["value"])
        for row in rows(results / "metrics.csv")
        if not row["class"] and not row["stratum"] and row["estimand"] in {"oof", "external-folds"}
        if row["level"] == "image"
    }
    assert shown == written


def test_the_same_folder_gives_the_same_bytes(results: Path, tmp_path: Path) -> None:
    first = report([results], tmp_path / "a.html").read_bytes()
    assert report([results], tmp_path / "b.html").read_bytes() == first


def test_a_report_made_before_is_replaced(results: Path, tmp_path: Path) -> None:
    out = report([results], tmp_path / "report.html")
    out.write_text(out.read_text("utf-8").replace("</main>", "an old remark</main>"), "utf-8")
    assert "an old remark" not in report([results], out).read_text("utf-8")


@pytest.mark.parametrize("content", ["<html>a page of mine</html>", "", "embedcache"])
def test_any_other_file_is_left_alone(content: str, results: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text(content, "utf-8")
    with pytest.raises(NotAReportError, match="name another file with --out"):
        report([results], mine)
    assert mine.read_text("utf-8") == content


def test_a_folder_is_no_report(results: Path) -> None:
    with pytest.raises(NotAReportError):
        report([results], results)


def test_results_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError, match="nowhere"):
        report([tmp_path / "nowhere"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_comparisons_older_than_the_metrics_are_made_anew(results: Path, tmp_path: Path) -> None:
    compare([results])
    fresh = (results / "comparisons.csv").read_bytes()
    header = fresh.splitlines(keepends=True)[0]
    (results / "comparisons.csv").write_bytes(header)
    os.utime(results / "comparisons.csv", (1, 1))
    report([results], tmp_path / "report.html")
    assert (results / "comparisons.csv").read_bytes() == fresh


def test_comparisons_by_another_metric_are_kept_and_not_mistaken(results: Path) -> None:
    compare([results], "auroc")
    asked = (results / "comparisons.csv").read_bytes()
    evidence = read_evidence([results])
    assert {row.metric for row in evidence.comparisons if row.kind == "pair"} == {"macro-f1"}
    assert (results / "comparisons.csv").read_bytes() == asked


def test_confusion_counts_are_those_of_the_table(results: Path, table: Path) -> None:
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for row in rows(table):
        guess = "yes" if float(row["probability:yes"]) > 0.5 else "no"
        expected[row["encoder"], row["cohort"], row["label"], guess] += 1
    evidence = read_evidence([results])
    classes = evidence.record.classes
    found = {
        (item.encoder, item.cohort, true, guess): int(item.counts[i, j])
        for item in evidence.confusions
        for i, true in enumerate(classes)
        for j, guess in enumerate(classes)
    }
    assert found == dict(expected)
    # 36 patients with an image of each class at home, 30 abroad, whatever the number of folds
    assert {(c.cohort, *c.images, *c.clusters) for c in evidence.confusions} == {
        ("home", 36, 36, 36, 36),
        ("abroad", 30, 30, 30, 30),
    }
    assert evidence.sites == {"home": 2, "abroad": 2}


def test_folders_of_other_cohorts_do_not_share_a_page(
    results: Path, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    kept = [line for line in table.read_text("utf-8").splitlines() if "abroad-7," not in line]
    other.write_text("\n".join(kept) + "\n", "utf-8")
    evaluate_table(other, tmp_path / "other")
    with pytest.raises(OtherProtocolError, match=r"differ in cohorts.*report them apart"):
        report([results, tmp_path / "other"], tmp_path / "report.html")


def test_two_arms_in_two_folders_share_a_page(
    results: Path, table: Path, tmp_path: Path, parsed
) -> None:
    other = tmp_path / "other.csv"
    other.write_text(
        table.read_text("utf-8").replace(",good,", ",better,").replace(",pixels,", ",plain,"),
        "utf-8",
    )
    evaluate_table(other, tmp_path / "other")
    page = parsed(
        report([results, tmp_path / "other"], tmp_path / "report.html").read_text("utf-8")
    )
    for name in ("good", "better", "plain"):
        assert name in page.text
    shutil.rmtree(tmp_path / "other")


def test_a_leaking_table_is_caught_whoever_made_it(table: Path, tmp_path: Path) -> None:
    leaking = tmp_path / "leaking.csv"
    # Patient 1's images, in fold 1, are said to be patient 0's, who is in fold 0; and an image of
    # the training hospital turns up abroad, in each of the three folds of both encoders.
    text = table.read_text("utf-8").replace(",home1,", ",home0,").replace("abroad-7,", "home-7,")
    leaking.write_text(text, "utf-8")
    evaluate_table(leaking, tmp_path / "results")
    audit = read_evidence([tmp_path / "results"]).audit
    assert audit.split_clusters == 1
    assert audit.shared_images == {"abroad": 1}

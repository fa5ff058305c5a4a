"""The page from a constructed result: every part there, hostile names harmless, sizes capped, many cases apart."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from result_maker import SPACING_MM, labels, make_result

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import CaseRecord, NotScored, Prediction, summarise, write_metrics, write_summary
from pet_pipeline.reporting import page
from pet_pipeline.reporting.page import missing_parts, write_report
from pet_pipeline.reporting.planes import CasePlanes

VOID = {"meta", "link", "img", "input", "br"}
SVG_VOID = {"path", "circle", "use", "rect", "image"}


class Outline(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, self.open[-5:]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if attrs.get("id")]


@pytest.fixture(scope="module")
def drawn(result):
    return Outline(write_report(result).read_text())


def test_every_required_part_is_there(drawn):
    for part in (
        "verdict", "worst", "lesions", "headline", "distributions", "agreement", "doses", "strata", "comparisons",
        "challenges", "cases", "methods-text", "provenance", "warnings",
    ):  # fmt: skip
        assert part in drawn.ids, part
    for text in (
        "Simulated data", "inside", "outside", "EARL’s ±10 %", "−25 % / +33 %", "Slope, SUVmean of organs",
        "Missed lesions", "Invented lesions", "By diameter", "By contrast in the reference", "10–15 mm",
        "Median", "[quartiles]", "[95 % interval]", "NRMSE", "PSNR (dB)", "SSIM", "Limits of agreement",
        "Maximum-intensity projections", "coronal and sagittal", "Slices through the hottest lesion: lesion 1",
        "Axial slice", "Coronal slice", "Sagittal slice", "MADM − reference", "uncertainty", "Joint histogram",
        "Profile through the focus", "scaled ×", "not public", "doses are pooled", "body found by threshold",
        "SHA-256", "phantom-fdg-5mm", "pet-pipeline evaluate out", "Bland–Altman",
    ):  # fmt: skip
        assert text in drawn.text, text


def test_lights_have_a_shape_and_a_word_beside_their_colour(drawn):
    symbols = {attrs["id"] for attrs in drawn.of("symbol")}
    assert {"lamp-green", "lamp-amber", "lamp-red"} <= symbols
    used = [attrs["href"] for attrs in drawn.of("use")]
    assert used.count("#lamp-red") > 0
    assert "limit" in drawn.text


def test_a_planted_bias_is_named_and_red(tmp_path):
    """The maker's lungs are 12 % too high, its liver is right: the light of the one is red, of the other green."""
    text = write_report(make_result(tmp_path, 12, methods=("MADM",), pictures=False)).read_text()
    for organ, word in (("lungs", "outside"), ("liver", "inside")):
        row = re.search(rf'<th scope="row">{organ}.*?</tr>', text, re.DOTALL)
        assert row is not None
        assert f"<span>{word}</span>" in row[0]


def test_the_page_is_one_valid_self_contained_file(drawn):
    assert drawn.of("html")[0]["lang"] == "en"
    assert len(drawn.ids) == len(set(drawn.ids)), [i for i in drawn.ids if drawn.ids.count(i) > 1][:5]
    for tag, name in (("img", "src"), ("image", "href"), ("script", "src"), ("link", "href")):
        for attrs in drawn.of(tag):
            assert str(attrs.get(name) or "data:").startswith("data:"), attrs
    targets = {str(a["href"])[1:] for a in drawn.of("a") if str(a.get("href")).startswith("#")}
    assert targets <= set(drawn.ids), targets - set(drawn.ids)
    policy = next(m["content"] for m in drawn.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_pictures_have_text_alternatives(drawn):
    pictures = drawn.of("img")
    assert len(pictures) > 60
    assert all(p.get("alt") for p in pictures)
    assert all(s.get("aria-label") for s in drawn.of("svg") if s.get("role"))
    assert drawn.of("a")[0]["href"] == "#main", "the skip link comes first"


def test_nothing_is_left_undefined(drawn):
    for word in ("nan", "None", "Undefined", "inf"):
        assert not re.search(rf"\b{word}\b", drawn.text), word


HOSTILE = (
    "<script>alert(1)</script>",
    "a/../../b",
    "x' onmouseover='y",
    'q"><img src=x onerror=z>',
    "{{ 7*7 }}",
    "名前",
)


def test_hostile_names_do_no_harm(tmp_path):
    methods = ("</script><script>evil()", "$\\frac{1}{2}$")
    folder = make_result(tmp_path, HOSTILE, methods=methods, viewer=True, warnings=["<b>bold</b>"])
    text = write_report(folder, viewer=True).read_text()
    found = Outline(text)
    assert "alert(1)</script>" not in text
    assert "<img src=x" not in text
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
    assert [script for script in scripts if "evil()" in script] == [
        script for script in scripts if "\\u003c/script" in script
    ], "the name stands in the viewer's data alone, as text"
    assert HOSTILE[0] in found.text
    assert "{{ 7*7 }}" in found.text
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert not (tmp_path.parent / "b.npz").exists()


def test_a_picture_outside_the_folder_is_not_shown(tmp_path):
    folder = make_result(tmp_path / "result", 1)
    (folder / "pictures" / "sub-0001.npz").rename(tmp_path / "elsewhere.npz")
    summary = json.loads((folder / "summary.json").read_text())
    summary["cases"][0]["picture"] = "../elsewhere.npz"
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "is missing" in write_report(folder).read_text()


def test_without_pictures_the_page_says_so(tmp_path):
    folder = make_result(tmp_path, 2, pictures=False)
    assert "No picture was kept" in Outline(write_report(folder).read_text()).text
    assert missing_parts(folder) == [
        "no picture data of sub-0001, sub-0002: the page shows these without pictures"
    ]  # fmt: skip


def test_a_damaged_picture_does_not_stop_the_others(tmp_path):
    folder = make_result(tmp_path, 2)
    (folder / "pictures" / "sub-0001.npz").write_bytes(b"no")
    text = write_report(folder).read_text()
    assert "cannot be read" in text
    assert "Slices through" in text


def test_cases_not_scored_are_named_with_their_reason(tmp_path):
    refused = [NotScored("sub-9", "MADM", "another grid"), NotScored("sub-8", None, "all zero")]
    text = Outline(write_report(make_result(tmp_path, 2, not_scored=refused, pictures=False)).read_text()).text
    for part in ("2 predictions could not be scored", "sub-9", "another grid", "every method", "all zero"):
        assert part in text


def test_one_patient_one_method_and_nothing_known(tmp_path):
    folder = make_result(tmp_path, 1, methods=("m",), simulated=None, provenance=False)
    text = Outline(write_report(folder).read_text()).text
    assert "Origin of the data not stated" in text
    assert "carry no sidecar" in text
    assert "undecided" in text


def test_the_window_is_written(tmp_path):
    folder = make_result(tmp_path, 1)
    assert ">10<" in write_report(folder, window_suv=10.0).read_text()


@pytest.mark.parametrize("lack", ["summary.json", "metrics.tsv"])
def test_a_folder_that_is_no_result_is_refused(tmp_path, lack):
    make_result(tmp_path, 1, pictures=False)
    (tmp_path / lack).unlink()
    with pytest.raises(InputRefused, match=rf"no {lack} in it.*pet-pipeline evaluate"):
        write_report(tmp_path)


def test_scores_of_methods_that_the_summary_does_not_know_are_left_out(tmp_path):
    rows = [Row("a", "m", "body", "psnr", 31.0, "dB"), Row("a", "m", "organ:liver", "suv_mean_bias", 1.0, "%")]
    write_summary(tmp_path / "summary.json", summarise(rows[:1]))
    write_metrics(tmp_path / "metrics.tsv", [rows[0], replace(rows[1], method="other")])
    assert write_report(tmp_path).is_file()


def test_another_schema_version_is_refused(tmp_path):
    make_result(tmp_path, 1, pictures=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"schema_version": 1}))
    with pytest.raises(InputRefused, match="schema version 1"):
        write_report(tmp_path)


def test_many_cases_get_pages_of_their_own(tmp_path):
    folder = make_result(tmp_path, 26, methods=("MADM",))
    (folder / "cases").mkdir()
    (folder / "cases" / "mine.html").write_text("<p>a stranger's file</p>")
    report = write_report(folder)
    pages = sorted(p.name for p in (folder / "cases").glob("sub-*.html"))
    assert len(pages) == 26
    group = Outline(report.read_text())
    links = {str(a["href"]) for a in group.of("a")}
    assert {f"cases/{name}" for name in pages} <= links
    assert "case-sub-0001" not in group.ids
    one = Outline((folder / "cases" / "sub-0002.html").read_text())
    assert {"../report.html", "sub-0001.html", "sub-0003.html"} <= {str(a["href"]) for a in one.of("a")}
    assert "Slices through" in one.text
    make_result(folder, 3, methods=("MADM",))
    write_report(folder)
    assert [p.name for p in (folder / "cases").iterdir()] == ["mine.html"], "ours are gone, a stranger's file stays"


def test_pages_that_would_be_too_large_lose_grey_levels_then_split(tmp_path, monkeypatch):
    folder = make_result(tmp_path, 4)
    large = write_report(folder).stat().st_size
    monkeypatch.setattr(page, "PICTURE_BUDGET", 90_000)
    assert write_report(folder).stat().st_size < large
    monkeypatch.setattr(page, "PICTURE_BUDGET", 1000)
    write_report(folder)
    assert len(list((folder / "cases").iterdir())) == 4


def test_two_hundred_cases_make_a_small_group_page(tmp_path):
    """Pictures of one case stand for all, so that the test is quick: the page's own weight is what counts."""
    folder = make_result(tmp_path, 200, methods=("MADM",), pictures=False)
    make_result(tmp_path / "one", 1, methods=("MADM",))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "pictures").mkdir()
    (folder / "pictures" / "one.npz").write_bytes((tmp_path / "one/pictures/sub-0001.npz").read_bytes())
    for case in summary["cases"]:
        case["picture"] = "pictures/one.npz"
    (folder / "summary.json").write_text(json.dumps(summary))
    report = write_report(folder)
    assert report.stat().st_size < 3_000_000
    assert len(list((folder / "cases").iterdir())) == 200
    assert Outline(report.read_text()).text.count("Missed lesions") > 200


def test_a_page_of_mu_maps(tmp_path):
    mu = np.array([0.0, 0.096, 0.1, 0.028, 0.12, 0.15], dtype=np.float32)[labels()]
    CasePlanes.of(mu, {"atlas": 1.05 * mu}, SPACING_MM, quantity="mumap").save(tmp_path / "pictures/sub-1.npz")
    rows = [
        Row("sub-1", "atlas", region, metric, value, unit)
        for region, metric, value, unit in (
            ("body", "mu_mae", 0.0041, "cm-1"), ("body", "hu_mae", 45.2, "HU"), ("tissue:bone", "dice", 0.71, "1"),
        )
    ]  # fmt: skip
    record = CaseRecord("sub-1", "sub-1", picture="pictures/sub-1.npz", methods={"atlas": Prediction("a")})
    settings = {"quantity": "mumap", "reference": "the manifest's mu-maps", "kvp": 120.0}
    write_metrics(tmp_path / "metrics.tsv", rows)
    write_summary(tmp_path / "summary.json", summarise(rows, cases=[record], settings=settings))
    text = Outline(write_report(tmp_path).read_text()).text
    for part in ("cm⁻¹", "0.0041", "45.2", "Dice", "bone", "0.17", "tube voltage 120 kV", "No traffic lights"):
        assert part in text, part
    assert "SUVmean of organs" not in text

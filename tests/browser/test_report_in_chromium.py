"""The report in a real browser: opened from disk, read at two widths, by keyboard, in the dark, on paper."""

import io
import time
from itertools import pairwise

import numpy as np
import pytest
from chromium import CHROMIUM, FLAGS, PATIENCE_MS
from result_maker import make_result

from pet_pipeline.reporting.page import write_report

pytestmark = [pytest.mark.browser]

BLOCKS = (
    "#origin", "#verdict", "#worst", "#lesions", "#headline", "#distributions", "#agreement", "#doses", "#strata",
    "#comparisons", "#challenges", "#viewer", "#cases", "#case-sub-0001", "#case-sub-0003", "#methods-text",
    "#provenance", "#warnings",
)  # fmt: skip
"""From the top of the page down."""


def _pixels(picture: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)


def test_it_opens_from_disk_with_no_request_and_no_error(visit, report):
    opened = visit(report)
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert opened.requests[0] == report.as_uri()
    assert {url.split(":")[0] for url in opened.requests[1:]} <= {"data", "blob"}
    loaded = opened.page.evaluate("[...document.images].map((i) => [i.complete, i.naturalWidth])")
    assert len(loaded) > 60
    assert all(complete and width > 0 for complete, width in loaded)
    assert opened.page.evaluate("document.fonts.check('16px \"Inter Report\"')")
    assert not opened.complaints


def test_nothing_runs_that_is_not_ours(visit, tmp_path):
    folder = make_result(
        tmp_path, ["<img src=x onerror=alert(1)>", "<script>alert(2)</script>", "javascript:alert(3)"],
        methods=("</script><script>alert(4)</script>", "\"><svg onload=alert(5)>"), viewer=True,
        warnings=["<b onclick=x>"],
    )  # fmt: skip
    opened = visit(write_report(folder, viewer=True))
    opened.page.wait_for_timeout(300)
    assert not opened.complaints
    assert opened.page.locator("h3", has_text="<script>alert(2)</script>").count()


def test_the_policy_forbids_requests(visit, report):
    """Even a script of the page's own could not fetch: the policy holds, not only our restraint."""
    opened = visit(report)
    refused = opened.page.evaluate("fetch('https://example.org/').then(() => 'fetched', () => 'refused')")
    assert refused == "refused"
    assert any("Content Security Policy" in line for line in opened.complaints)


@pytest.mark.parametrize("width", [1280, 420])
def test_layout(visit, report, width):
    opened = visit(report, width=width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = {block: opened.box(block) for block in BLOCKS}
    tops = [boxes[block]["top"] for block in BLOCKS]
    assert tops == sorted(tops), "blocks stand in the order of their importance"
    for block, box in boxes.items():
        assert box["left"] >= 0, block
        assert box["right"] <= width, block
        assert box["right"] - box["left"] >= 0.6 * width, block
        assert box["bottom"] - box["top"] > 20, block
    for above, below in pairwise(BLOCKS):
        if not (above == "#cases" or below.startswith("#case-")):
            assert boxes[above]["bottom"] <= boxes[below]["top"] + 1, (above, below)
    wide = opened.page.evaluate(
        "(w) => [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, .away, svg'))"
        ".map((e) => [e.tagName, e.className, e.getBoundingClientRect()])"
        ".filter(([, , b]) => b.width && (b.right > w + 1 || b.left < -1)).map(([t, c]) => `${t}.${c}`)",
        width,
    )
    assert not wide, wide[:5]


def test_pictures_stand_abreast_where_there_is_room(visit, report):
    rows = {}
    for width in (1280, 420):
        opened = visit(report, width=width)
        cells = opened.page.evaluate(
            "[...document.querySelector('.strip').querySelectorAll('.cell')].slice(0, 4)"
            ".map((c) => c.getBoundingClientRect()).map((b) => [b.left, b.top, b.width])"
        )
        rows[width] = len({round(top) for _, top, _ in cells})
        assert all(w > 100 for _, _, w in cells), "large enough to see anything"
    assert rows == {1280: 1, 420: 2}


def test_text_is_large_enough_in_charts(visit, report):
    for width in (1280, 420):
        sizes = visit(report, width=width).page.evaluate(
            "[...document.querySelectorAll('svg.chart text')].map((t) => t.getBoundingClientRect().height)"
        )
        assert len(sizes) > 50
        assert min(sizes) > 8.5


def test_the_first_key_leads_to_the_content(visit, report):
    page = visit(report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0, "it shows itself"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(visit, report):
    page = visit(report).page
    seen = []
    for _ in range(45):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.tagName, e.textContent.trim().slice(0, 30),"
                " s.outlineStyle !== 'none' || !!e.closest('svg')]; })()"
            )
        )
    assert all(outlined for _, _, outlined in seen), [s for s in seen if not s[2]][:3]
    words = [text for _, text, _ in seen]
    for wanted in ("Verdict", "Cases", "Methods text", "sub-0001"):
        assert wanted in words, wanted


def test_theme_follows_the_system_and_the_button(visit, report):
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    light, dark = visit(report).page, visit(report, scheme="dark").page
    assert min(light.evaluate(ground)) > 240
    assert max(dark.evaluate(ground)) < 60
    film = "getComputedStyle(document.querySelector('.film-case')).backgroundColor"
    assert dark.evaluate(film) == "rgb(255, 255, 255)", "pictures keep their white ground"
    button = dark.locator(".theme-button")
    button.focus()
    dark.keyboard.press("Enter")
    assert min(dark.evaluate(ground)) > 240
    assert button.get_attribute("aria-pressed") == "false"


CONTRAST = """
(selectors) => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m; };
  const linear = (v) => (v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4);
  const lum = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  return selectors.map((s) => {
    const e = document.querySelector(s);
    const ink = parse(getComputedStyle(e).color);
    let ground = null;
    for (let n = e; n && !ground; n = n.parentElement) ground = parse(getComputedStyle(n).backgroundColor);
    const [a, b] = [lum(ink), lum(ground ?? [255, 255, 255])].sort((x, y) => y - x);
    return [s, (a + .05) / (b + .05)];
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(visit, report, scheme):
    found = visit(report, scheme=scheme).page.evaluate(
        CONTRAST,
        ["h1", ".meta", "h2 small", ".note", ".light-green", ".light-red", "td", "th small", ".overline", ".reasons",
         ".film-case figcaption", ".film-case small", ".nav-list a", ".pairs dt", ".pairs small", "main a[href]"],
    )  # fmt: skip
    assert all(ratio >= 4.5 for _, ratio in found), [entry for entry in found if entry[1] < 4.5]


def test_on_paper_it_is_white_and_complete(visit, report):
    opened = visit(report, scheme="dark", width=760)
    opened.page.emulate_media(media="print", color_scheme="dark")
    page = opened.page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(23, 33, 43)"
    for hidden in (".bar", "#viewer", ".finder"):
        assert page.evaluate(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none", hidden
    assert page.evaluate("getComputedStyle(document.querySelector('.case')).breakBefore") == "page"
    assert page.evaluate("document.documentElement.scrollWidth") <= 760
    assert len(page.pdf(format="A4")) > 100_000


def test_tables_sort_and_cases_are_found(visit, report):
    page = visit(report).page
    table = page.locator("#strata table.sortable").first
    column = "(t) => [...t.tBodies[0].rows].map((r) => r.cells[3].firstChild.textContent.trim())"
    button = table.locator("th .sort").nth(3)
    button.focus()
    page.keyboard.press("Enter")
    upward = [float(v) for v in table.evaluate(column)]
    assert upward == sorted(upward)
    assert table.locator("th").nth(3).get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert [float(v) for v in table.evaluate(column)] == upward[::-1]
    page.fill(".find", "sub-0002")
    shown = page.locator(".index li:visible")
    assert shown.count() == 1
    assert "sub-0002" in (shown.text_content() or "")  # its inner text is empty until it has been laid out
    page.fill(".find", "")
    page.select_option(".order", label="PSNR (MADM)")
    values = [
        float(v) for v in page.evaluate("[...document.querySelectorAll('.index li')].map((l) => l.dataset.bodyPsnr)")
    ]
    assert values == sorted(values), "the worst come first"


def test_an_outlier_leads_to_its_case(visit, report):
    page = visit(report).page
    link = page.locator("svg.chart a").first
    target = link.get_attribute("href")
    assert target.startswith("#case-sub-")
    assert page.locator(target).count() == 1
    page.evaluate("(h) => { location.hash = h; }", target)
    assert abs(page.locator(target).bounding_box()["y"]) < 100


def test_contents_on_a_narrow_screen(visit, report):
    page = visit(report, width=420).page
    button, contents = page.locator(".menu-button"), page.locator("#nav-list")
    assert not contents.is_visible()
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert not contents.is_visible()
    button.click()
    contents.get_by_role("link", name="Methods text").click()
    assert not contents.is_visible()
    page.wait_for_timeout(100)
    assert 0 <= page.locator("#methods-text").bounding_box()["y"] < 120, "not hidden by the bar"


def _until(page, condition: str) -> None:
    """Wait for a JavaScript condition; Playwright's own way needs eval in the page, which its policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000.0
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(200)


def _started(opened):
    opened.page.locator("#viewer").scroll_into_view_if_needed()
    opened.page.wait_for_selector("#viewer[data-ready]")
    opened.page.wait_for_timeout(800)
    return opened.page


def _moved(page, selector: str, value: float) -> None:
    page.eval_on_selector(
        selector, "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", str(value)
    )
    page.wait_for_timeout(800)


def test_the_viewer_draws_and_follows_its_sliders(visit, report):
    opened = visit(report)
    page = _started(opened)
    canvas = {n: page.locator(f".v-{n} canvas") for n in ("reference", "prediction", "difference", "uncertainty")}
    first = {name: _pixels(one.screenshot()) for name, one in canvas.items()}
    for name, pixels in first.items():
        assert pixels.std() > 5, f"{name} is not blank"
    assert first["reference"].min() < 60, "the hottest is drawn dark"
    _moved(page, ".v-window", 20)
    lighter = _pixels(canvas["reference"].screenshot())
    assert lighter.mean() > first["reference"].mean() + 0.5, "a wider window is lighter"
    assert "0 to 20" in page.locator(".viewer-controls").inner_text()
    _moved(page, ".v-opacity", 0)
    assert np.abs(_pixels(canvas["difference"].screenshot()) - first["difference"]).mean() > 0.1
    assert not opened.complaints
    assert {url.split(":")[0] for url in opened.requests[1:]} <= {"data", "blob"}


def test_the_viewers_panels_share_one_cross_hair(visit, report):
    opened = visit(report)
    page = _started(opened)
    said = "[...document.querySelectorAll('.v-panel:not([hidden]) .v-value')].map((o) => o.textContent)"
    reference, prediction, difference, _ = (float(v.split()[0].replace("−", "-")) for v in page.evaluate(said))
    assert reference == pytest.approx(9.0, abs=0.02), "it begins at the hottest lesion"
    assert difference == pytest.approx(prediction - reference, abs=0.02)
    canvas = {n: page.locator(f".v-{n} canvas") for n in ("reference", "prediction")}
    before = {name: _pixels(one.screenshot()) for name, one in canvas.items()}
    page.locator(".v-z").focus()
    for _ in range(8):
        page.keyboard.press("PageDown")
    page.wait_for_timeout(800)
    for name, one in canvas.items():
        assert np.abs(_pixels(one.screenshot()) - before[name]).mean() > 0.2, f"{name} follows"
    moved = {name: _pixels(one.screenshot()) for name, one in canvas.items()}
    box = canvas["reference"].bounding_box()
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.45 * box["height"])
    page.wait_for_timeout(800)
    assert np.abs(_pixels(canvas["prediction"].screenshot()) - moved["prediction"]).mean() > 0.05, "a click moves both"
    page.locator(".v-home").click()
    page.wait_for_timeout(400)
    assert page.evaluate(said)[0].startswith("9.0")
    assert not opened.complaints


def test_another_case_and_method_are_shown(visit, report):
    opened = visit(report)
    page = _started(opened)
    page.locator("#case-sub-0002 .open-viewer").click()
    _until(page, "document.querySelector('.v-case').value === 'sub-0002'")
    page.select_option(".v-method", "prior alone")
    _until(page, "document.querySelector('.v-prediction b').textContent.includes('prior alone')")
    assert page.locator(".v-uncertainty").is_hidden(), "that method has no uncertainty"
    assert not opened.complaints


def test_without_webgl_one_line_says_so_and_the_pictures_stay(playwright, visit, report):
    bare = playwright.chromium.launch(
        executable_path=str(CHROMIUM), args=[*FLAGS, "--disable-gpu", "--disable-3d-apis"], timeout=PATIENCE_MS
    )
    try:
        opened = visit(report, within=bare)
        page = opened.page
        page.locator("#viewer").scroll_into_view_if_needed()
        _until(page, "document.querySelector('.viewer-message').textContent.includes('WebGL2')")
        assert page.locator(".viewer").is_hidden()
        assert page.evaluate("[...document.querySelectorAll('.film-case img')].every((i) => i.naturalWidth > 0)")
        assert not opened.complaints
    finally:
        bare.close()


def test_many_cases_are_pages_apart(visit, tmp_path):
    report = write_report(make_result(tmp_path, 26, methods=("MADM",)))
    opened = visit(report)
    opened.page.locator(".index a").nth(1).click()
    opened.page.wait_for_load_state()
    assert opened.page.url.endswith("/cases/sub-0002.html")
    opened.page.get_by_role("link", name="Next case").click()
    opened.page.wait_for_load_state()
    assert opened.page.url.endswith("/cases/sub-0003.html")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
    opened.page.get_by_role("link", name="All cases and the group").click()
    opened.page.wait_for_load_state()
    assert opened.page.url == report.as_uri()
    assert not opened.complaints

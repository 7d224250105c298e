"""The page of edge.report in headless Chromium: phone and desktop, light and dark, and on paper."""

import shutil

import pytest

from edge.report import __main__ as command
from tests.edge import report_documents as made
from tfvit.errors import EXIT_CHECK_FAILED

pytestmark = pytest.mark.slow

VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
# WCAG 2.2 AA: text, and graphics that carry meaning
LEAST_CONTRAST, LEAST_GRAPHICS_CONTRAST = 4.5, 3.0
LEAST_LETTERS_PX = 12
# A4 less its margins; US letter is 12 px narrower and shrinks by that
LANDSCAPE_PX = 1032

# Every piece of text that can be seen, with its contrast against the first ground behind it that is not transparent, and its size
_TEXTS = """() => {
  const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const contrast = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), svg = element.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const ink = parse(svg ? style.fill : style.color);
    found.push({ text, contrast: contrast(ink, ground(element)), px: scale * parseFloat(style.fontSize) });
  }
  for (const shape of document.querySelectorAll("svg path, svg use")) {
    if (shape.closest("defs")) continue;
    const style = getComputedStyle(shape);
    for (const color of [style.fillOpacity === "0" ? "none" : style.fill, style.stroke]) {
      const inline = shape.getAttribute("style") || "";
      if (color !== "none" && /var\\(--(first|second|bad)\\)/.test(inline)) {
        found.push({ text: "", contrast: contrast(parse(color), ground(shape)), px: 99 });
      }
    }
  }
  return found;
}"""
_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
_UNFOLD = "() => { for (const part of document.querySelectorAll('details')) part.open = true; }"


@pytest.fixture(scope="module")
def chromium():
    """Debian's browser, driven by playwright, which brings none of its own here."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """A report with everything in it, and a failed check of each kind that the page colours."""
    folder = tmp_path_factory.mktemp("browser") / "artifacts"
    manifests = made.full_folder(folder)
    made.save_artifact(folder, made.manifest("int8", random=True, variant="tiny224"))
    made.save(folder / "other.json", made.validation(manifests["dynamic"], passed=False))
    made.save_artifact(folder, made.manifest("int8", f"a-very-long-name-{'of-a-file-' * 8}int8", passed=False, logits_snr_db=3.0))
    assert command.main([str(folder), "--quiet"]) == EXIT_CHECK_FAILED
    return folder / "report.html"


@pytest.fixture
def opened(chromium, page_path):
    """Opens the page, and gives back what the browser complained of and asked for."""
    contexts = []

    def open_page(width=1280, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_path.as_uri())
        return page, complaints, requests

    yield open_page
    for context in contexts:
        context.close()


def unreadable(page):
    texts = page.evaluate(_TEXTS)
    assert len(texts) > 300
    return [
        one
        for one in texts
        if one["contrast"] < (LEAST_CONTRAST if one["text"] else LEAST_GRAPHICS_CONTRAST) or one["px"] < LEAST_LETTERS_PX - 0.01
    ]


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_can_be_read(opened, width, scheme):
    page, complaints, requests = opened(width, scheme)
    assert page.evaluate(_OVERFLOW) <= 0
    page.evaluate(_UNFOLD)
    assert page.evaluate(_OVERFLOW) <= 0
    assert unreadable(page) == []
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.url]
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_checks_above_can_fail(opened):
    page, complaints, _ = opened(390)
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<p style=\"color: #999; background: #fff\">pale</p>')")
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<p style=\"font-size: 9px\">small</p>')")
    assert [one["text"] for one in unreadable(page)] == ["pale", "small"]
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<div style=\"width: 600px\">wide</div>')")
    assert page.evaluate(_OVERFLOW) > 0
    page.evaluate("() => { const image = new Image(); image.src = 'http://example.org/x.png'; document.body.append(image); }")
    page.wait_for_timeout(200)
    assert complaints  # the page's own policy refuses it


def test_tables_sort(opened):
    page, _, _ = opened()
    table = page.locator("#files table").first

    def column(name):
        titles = [title.split("\u00a0")[0].strip() for title in table.locator("th").all_inner_texts()]
        index = titles.index(name)
        return table.locator("th").nth(index), table.locator(f"tbody tr td:nth-child({index + 1})")

    header, cells = column("MB")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in cells.all_inner_texts()]
    assert values == sorted(values)
    assert len(values) == 8
    header.locator("button").press("Enter")  # by the keyboard too
    assert header.get_attribute("aria-sort") == "descending"
    values = [float(cell.get_attribute("data-value")) for cell in cells.all()]
    assert values == sorted(values, reverse=True)
    other, cells = column("top-1 %")
    other.locator("button").click()
    assert header.get_attribute("aria-sort") is None
    assert cells.all_inner_texts()[-1] == "not known"  # what is not known comes last
    other.locator("button").click()
    assert cells.all_inner_texts()[-1] == "not known"
    names, cells = column("file")
    names.locator("button").click()
    assert cells.all_inner_texts() == sorted(cells.all_inner_texts())


def test_links_lead_to_what_they_name(opened):
    page, complaints, _ = opened()
    entries = page.locator("nav a")
    assert entries.count() == 12
    for index in range(entries.count()):
        link = entries.nth(index)
        title = link.inner_text()
        link.click()
        target = page.locator(link.get_attribute("href"))
        assert target.evaluate("(place) => place.getBoundingClientRect().top < innerHeight && place.getBoundingClientRect().bottom > 0"), (
            title
        )
        assert {"Verdict": "2 checks failed"}.get(title, title) in target.inner_text()
    page.locator(".card .file a").first.click()
    assert page.locator("tr:target td").first.inner_text() == "nano32-int8"
    page.locator(".failures a").first.click()
    assert page.locator("tr:target").count() == 1
    assert complaints == []


def test_tables_and_folded_parts_are_reached_by_the_keyboard(opened):
    page, _, _ = opened(390)
    page.locator("#files .scroll").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#files .scroll').scrollLeft > 0")
    summary = page.locator("#files summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#files details").first.get_attribute("open") is not None


def test_paper(opened, tmp_path):
    page, _, _ = opened(LANDSCAPE_PX, "dark")
    folded = page.locator("details:not([open])").count()
    assert folded > 5
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.evaluate(_UNFOLD)
    assert page.evaluate(_OVERFLOW) <= 0
    printed = page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert printed.startswith(b"%PDF")

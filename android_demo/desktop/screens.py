"""The app's screens, light and dark, drawn in a browser from its layouts, texts and colours, with what the JVM run answered: no phone's
screenshot.

python android_demo/desktop/screens.py --app android_demo/app --answer JSON --picture FILE --report JSON --fonts DIR --out PNG

A changed layout or text changes the picture. An element or attribute that is not drawn here ends it with an error, so that nothing is left
out unseen. Which text goes into which view is repeated here from MainActivity and BenchmarkActivity.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

_ANDROID = "{http://schemas.android.com/apk/res/android}"
WIDTH_DP, HEIGHT_DP = 360, 720

# Sizes and colours of Theme.Material in the framework's own resources (API 23), which the layouts and styles.xml refer to
_CSS = """
@font-face { font-family: Roboto; src: url(FONT_REGULAR); }
@font-face { font-family: Roboto; font-weight: 500; src: url(FONT_MEDIUM); }
* { box-sizing: border-box; }
body { margin: 16px; width: 1160px; background: #e8eaed; font: 14px/1.17 Roboto; }
p { margin: 0 0 12px; font-size: 13px; line-height: 1.4; color: #202124; }
.screens { display: flex; gap: 20px 40px; flex-wrap: wrap; }
.screen { width: WIDTHpx; height: HEIGHTpx; overflow: hidden; background: var(--background); color: var(--second); }
.screen { box-shadow: 0 1px 4px rgba(0, 0, 0, .4); padding-top: 24px; }
.light { --text: rgba(0, 0, 0, .87); --second: rgba(0, 0, 0, .54); --button: #d6d7d7; --on-primary: #fff; LIGHT }
.dark { --text: #fff; --second: rgba(255, 255, 255, .7); --button: #5a595b; --on-primary: #000; DARK }
.LinearLayout, .RadioGroup { display: flex; }
.vertical { flex-direction: column; }
.TextView { white-space: pre-line; overflow-wrap: anywhere; }
.Headline { font-size: 24px; color: var(--text); }
.Title { font-size: 20px; font-weight: 500; color: var(--text); }
.Subhead { font-size: 16px; color: var(--text); }
.Body1 { font-size: 14px; color: var(--text); }
.Caption { font-size: 12px; }
.card { background: var(--card); border: 1px solid var(--outline); border-radius: 12px; }
.Button { min-height: 48px; min-width: 88px; padding: 6px 4px; text-transform: uppercase; font-weight: 500; color: var(--text); }
.Button > span { display: flex; height: 36px; align-items: center; justify-content: center; border-radius: 2px; background: var(--button); }
.Colored > span { background: var(--primary); color: var(--on-primary); }
.Borderless > span { background: none; color: var(--primary); }
.RadioButton, .CheckBox { display: flex; align-items: center; color: var(--text); }
.RadioButton::before, .CheckBox::before { content: ""; width: 16px; height: 16px; margin: 6px; border: 2px solid var(--second); }
.RadioButton::before { border-radius: 50%; }
.RadioButton.checked::before { border-color: var(--primary); }
.RadioButton.checked::before { background: radial-gradient(var(--primary) 4.5px, var(--background) 5px); }
.CheckBox::before { width: 14px; height: 14px; border-radius: 2px; text-align: center; }
.CheckBox.checked::before { content: "✓"; border-color: var(--primary); background: var(--primary); }
.CheckBox.checked::before { color: var(--on-primary); font: bold 14px/14px sans-serif; }
.Spinner { display: flex; align-items: center; justify-content: space-between; padding: 0 8px; font-size: 16px; color: var(--text); }
.Spinner::after { content: ""; border: 5px solid transparent; border-top-color: var(--second); margin-top: 5px; }
.ProgressBar { height: 16px; padding: 6px 0; }
.ProgressBar > span { display: block; height: 4px; background: linear-gradient(to right, var(--primary) PROGRESS, var(--button) PROGRESS); }
.ImageView { object-fit: contain; }
.TableLayout { display: grid; grid-template-columns: 1fr auto auto auto; }
.TableRow { display: contents; }
.TableRow > .TextView { padding-top: 8px; }
.TableLayout > .TextView { grid-column: 1 / -1; }
"""
_CAPTION = (
    "Drawn in a browser from the app's layouts and texts, not a phone's screenshot. Answers and milliseconds are of the app's own classes "
    "on a computer's JVM, with real LiteRT."
)
_APPEARANCES = {f"@android:style/TextAppearance.Material.{name}": name for name in ("Headline", "Title", "Subhead", "Body1", "Caption")}
_STYLES = {
    **_APPEARANCES,
    "@android:style/Widget.Material.ProgressBar.Horizontal": "",
    "@android:style/Widget.Material.Button.Colored": "Colored",
    "@android:style/Widget.Material.Button.Borderless.Colored": "Borderless",
}
_ELEMENTS = (
    "ScrollView", "LinearLayout", "RadioGroup", "RadioButton", "CheckBox", "TextView", "Button", "Spinner", "ImageView", "ProgressBar",
    "TableLayout", "TableRow",
)  # fmt: skip
# seen by a screen reader, a finger or the system's bars
_NOT_DRAWN = {
    "contentDescription", "textIsSelectable", "fitsSystemWindows", "max", "scaleType", "clipToPadding", "accessibilityHeading",
    "accessibilityLiveRegion", "importantForAccessibility", "shrinkColumns", "stretchColumns",
}  # fmt: skip
_GRAVITIES = {"center_vertical": "align-items: center", "end": "text-align: right"}
_SIDES = {
    "padding": "padding",
    "paddingTop": "padding-top",
    "paddingBottom": "padding-bottom",
    "paddingStart": "padding-left",
    "paddingEnd": "padding-right",
}


class Resources:
    """Texts and colours of the app."""

    def __init__(self, app: Path) -> None:
        self._layouts = app / "src/main/res/layout"
        resources = app / "src/main/res"
        strings = ElementTree.parse(resources / "values/strings.xml").getroot()
        self.texts = {one.get("name"): (one.text or "").replace("\\n", "\n") for one in strings}
        self.colours = {}
        for theme, folder, parent in (("light", "values", "Material.Light"), ("dark", "values-night", "Material")):
            self.colours[theme] = {one.get("name"): one.text for one in ElementTree.parse(resources / folder / "colors.xml").getroot()}
            (style,) = ElementTree.parse(resources / folder / "styles.xml").getroot()
            if style.get("parent") != f"android:Theme.{parent}.NoActionBar":
                raise ValueError(
                    f"{folder}/styles.xml: expected Theme.{parent}.NoActionBar, whose sizes are in screens.py: {style.get('parent')}"
                )

    def layout(self, name: str) -> ElementTree.Element:
        return ElementTree.parse(self._layouts / f"{name}.xml").getroot()

    def text(self, name: str, *arguments: Any) -> str:
        """As getString formats it."""

        def filled(place: re.Match) -> str:
            value = arguments[int(place[1]) - 1]
            return format(value, (place[2] or "") + place[3]) if place[3] != "s" else str(value)

        return re.sub(r"%(\d)\$(\.\d+)?([dsf])", filled, self.texts[name])


class Screen:
    """One layout as HTML.

    Attributes:
        views: what the app's code sets, by id: `text`, `source`, `progress` (0 to 1), `checked`, `visible`, `colour`, `children` (HTML).
    """

    def __init__(self, resources: Resources, layout: str, views: dict[str, dict[str, Any]]) -> None:
        self._resources = resources
        self._views = views
        root = resources.layout(layout)
        ids = {self._id(element) for element in root.iter()}
        if unknown := views.keys() - ids:
            raise ValueError(f"{layout}.xml has no view {', '.join(sorted(unknown))}")
        self.html = self._element(root, "vertical")

    @staticmethod
    def _id(element: ElementTree.Element) -> str:
        return element.get(f"{_ANDROID}id", "").removeprefix("@+id/")

    def _element(self, element: ElementTree.Element, parent: str) -> str:
        if element.tag not in _ELEMENTS:
            raise ValueError(f"a layout has a {element.tag}, which is not drawn here: add it to screens.py")
        attributes = {name.removeprefix(_ANDROID): value for name, value in element.attrib.items()}
        set_by_code = self._views.get(self._id(element), {})
        orientation = attributes.pop("orientation", "horizontal") if element.tag in ("LinearLayout", "RadioGroup") else "vertical"
        classes, css = [element.tag, orientation if element.tag in ("LinearLayout", "RadioGroup") else ""], []
        text, checked, visible = "", False, True
        for name, value in attributes.items():
            if name == "id" or name in _NOT_DRAWN:
                continue
            elif name == "style" and value in _STYLES:
                classes.append(_STYLES[value])
            elif name == "layout_width":
                css.append(_extent("width", value, parent))
            elif name == "layout_height":
                css.append(_extent("height", value, parent))
            elif name == "layout_weight":
                css.append(f"flex: {value} 1 0; min-width: 0")
            elif name in _SIDES:
                css.append(f"{_SIDES[name]}: {_px(value)}")
            elif name == "minHeight":
                css.append(f"min-height: {_px(value)}")
            elif name == "minLines":
                css.append(f"min-height: calc({value} * 1.17em + 8px)")
            elif name == "text":
                text = self._resources.texts[value.removeprefix("@string/")]
            elif name == "checked":
                checked = value == "true"
            elif name == "gravity" and value in _GRAVITIES:
                css.append(_GRAVITIES[value])
            elif name == "background" and value == "@drawable/card":
                classes.append("card")
            elif name == "visibility":
                visible = value == "visible"
            else:
                raise ValueError(f"a layout has {name}={value}, which is not drawn here: add it to screens.py")
        if not set_by_code.get("visible", visible):
            return ""
        if set_by_code.get("checked", checked):
            classes.append("checked")
        if "colour" in set_by_code:
            css.append(f"color: var(--{set_by_code['colour']})")
        start = f'class="{" ".join(filter(None, classes))}" style="{html.escape("; ".join(filter(None, css)))}"'
        if element.tag == "ImageView":
            return f'<img {start} src="{set_by_code["source"]}">'
        if element.tag == "ProgressBar":
            return f'<div {start}><span style="--progress: {set_by_code["progress"]:.1%}"></span></div>'
        inner = html.escape(set_by_code.get("text", text)) + "".join(self._element(child, orientation) for child in element)
        inner += set_by_code.get("children", "")
        return f"<div {start}><span>{inner}</span></div>" if element.tag == "Button" else f"<div {start}>{inner}</div>"


def _px(value: str) -> str:
    """Density-independent pixels are CSS's."""
    if not re.fullmatch(r"\d+dp", value):
        raise ValueError(f"expected a size in dp. Received: {value}")
    return value.replace("dp", "px")


def _extent(side: str, value: str, parent: str) -> str:
    if value == "wrap_content":
        return "align-self: flex-start" if (side == "width") == (parent == "vertical") else ""
    if value == "match_parent":
        return "width: 100%" if side == "width" else ""
    return "" if value == "0dp" else f"{side}: {_px(value)}"


def main_screen(resources: Resources, answer: dict[str, Any], picture: Path) -> Screen:
    """After a picture was classified, as MainActivity fills it."""
    backend, init_ms, first_ms = answer["opened"]
    source = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    return Screen(
        resources,
        "main",
        {
            "content": {"visible": True},
            "image": {"source": source, "visible": True},
            "model": {"text": answer["model"]},
            backend: {"checked": True},
            "status": {"text": resources.text("opened", resources.texts[backend], init_ms, first_ms)},
            "scores": {"visible": True, "text": "\n".join(resources.text("score", label, score) for label, score in answer["scores"])},
            "stages": {"text": resources.text("stages", *answer["stages"])},
        },
    )


def first_screen(resources: Resources, answer: dict[str, Any]) -> Screen:
    """Before anything was chosen."""
    backend, init_ms, first_ms = answer["opened"]
    return Screen(
        resources,
        "main",
        {
            "content": {"visible": True},
            "first_steps": {"visible": True},
            "model": {"text": answer["model"]},
            backend: {"checked": True},
            "status": {"text": resources.text("opened", resources.texts[backend], init_ms, first_ms)},
        },
    )


def benchmark_screen(resources: Resources, report: dict[str, Any]) -> Screen:
    """After a benchmark, as BenchmarkActivity fills it."""

    def described(row: dict[str, Any]) -> str:
        used, asked, parity = resources.texts[row["backend_used"]], resources.texts[row["backend_requested"]], row["parity"]
        lines = []
        if used != asked:
            lines.append(resources.text("result_instead", asked, row["backend_reason"]))
        lines.append(resources.text("result_times", row["first_inference_ms"], row["init_ms"], row["num_runs"]))
        if row["invalid_reasons"]:
            lines.append(resources.text("result_not_valid", "; ".join(row["invalid_reasons"])))
        pixels = resources.texts["pixels_same" if parity["pixels_same"] else "pixels_differ"]
        error = "NaN" if parity["max_abs_err"] is None else format(parity["max_abs_err"], ".1e")
        passed = "parity_passed" if parity["passed"] else "parity_failed"
        return "\n".join([*lines, resources.text(passed, error, parity["tolerance"], pixels)])

    def table_row(*texts: str) -> str:
        cells = ("result_model", "result_backend", "result_median", "result_p90")
        return Screen(resources, "result", {cell: {"text": text} for cell, text in zip(cells, texts, strict=True)}).html

    rows = report["results"]
    drawn = [table_row(*(resources.texts[f"column_{column}"] for column in ("model", "backend", "median", "p90")))]
    for row in rows:
        times = (resources.text("milliseconds", row[name]) for name in ("median_ms", "p90_ms"))
        drawn.append(table_row(row["name"], resources.texts[row["backend_used"]], *times))
        right = not row["invalid_reasons"] and row["parity"]["passed"]
        details = {"text": described(row), "colour": "passed" if right else "failed"}
        drawn.append(Screen(resources, "result_details", {"result_details": details}).html)
    return Screen(
        resources,
        "benchmark",
        {
            "preset": {"text": resources.text("preset_item", "quick", 10, 1.0)},
            "progress": {"progress": 1.0},
            "status": {"text": resources.text("benchmark_done", len(rows))},
            "results": {"visible": True, "children": "".join(drawn)},
            "report_buttons": {"visible": True},
        },
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("app", "answer", "picture", "report", "fonts", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    resources = Resources(arguments.app)
    answer = json.loads(arguments.answer.read_text(encoding="utf-8"))
    answered = main_screen(resources, answer, arguments.picture)
    measured = benchmark_screen(resources, json.loads(arguments.report.read_text(encoding="utf-8")))
    before = first_screen(resources, answer)
    css = _CSS.replace("WIDTH", str(WIDTH_DP)).replace("HEIGHT", str(HEIGHT_DP)).replace("PROGRESS", "var(--progress)")
    for theme, colours in resources.colours.items():
        css = css.replace(theme.upper(), " ".join(f"--{name}: {colour};" for name, colour in colours.items()))
    for name, weight in (("REGULAR", "Regular"), ("MEDIUM", "Medium")):
        css = css.replace(f"FONT_{name}", (arguments.fonts / f"Roboto-{weight}.ttf").resolve().as_uri())
    screens = "".join(
        f'<div class="screen {theme}">{screen.html}</div>' for theme in resources.colours for screen in (before, answered, measured)
    )
    page = arguments.out.with_suffix(".html")
    page.write_text(f'<meta charset="utf-8"><style>{css}</style><p>{_CAPTION}</p><div class="screens">{screens}</div>', encoding="utf-8")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1192, "height": 600}, device_scale_factor=1.25)
        opened.goto(page.resolve().as_uri())
        opened.evaluate("() => document.fonts.ready")
        opened.screenshot(path=arguments.out, full_page=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The top of a page as a picture, by the system's Chromium: python scripts/screenshot.py PAGE.html PICTURE.png [WIDTH HEIGHT [dark]]"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(page: str, picture: str, width: str = "1280", height: str = "1180", scheme: str = "light") -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": int(width), "height": int(height)}, color_scheme=scheme)
        opened.goto(Path(page).resolve().as_uri())
        opened.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

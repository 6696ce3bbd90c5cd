"""The report of an audit as a page: bounded, self-contained, safe, and used in a real browser."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from segkit import audit
from segkit.audit import Finding
from segkit.audit._measure.row import ROW, Options

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a small set with faults, one with a hostile name."""
    top = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (top / name).mkdir()
    for i in range(14):
        size = (40, 60) if i % 3 else (50, 50)
        image = rng.integers(60, 200, (*size, 3), dtype=np.uint8)
        Image.fromarray(image).save(top / "images" / f"{i:02d}.png")
        mask = np.zeros(size, np.uint8)
        mask[10:30, 10:30] = i % 3
        Image.fromarray(mask).save(top / "masks" / f"{i:02d}.png")
    (top / "images" / HOSTILE).write_bytes(b"")
    (top / "images" / "b.png").write_bytes(b"")
    Image.fromarray(np.full((40, 60, 3), 9, np.uint8)).save(top / "images" / "04.png")
    Image.fromarray(np.full((40, 60), 77, np.uint8)).save(top / "masks" / "05.png")
    report = audit.audit_dataset(top / "images", top / "masks", num_classes=3, progress=False)
    report.to_html(top / "report.html")
    return top / "report.html"


def big_report(tmp_path, count=10_000):
    """Every file of a large set has several findings; pictures are noise, which compresses worst."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    mask = tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (200, 200), dtype=np.uint8)).save(mask)
    names = [f"{tmp_path}/a/rather/long/name/of/a/folder/image_{i:06d}.png" for i in range(count)]
    findings = [
        Finding(
            code, kind.severity, str(path) if i < 40 else names[i], None, 0.5, "A reason of usual length. " * 4, "-"
        )
        for code, kind in audit.CODES.items()
        for i in range(0, count, 3)
    ]
    rows = np.zeros(count, ROW)
    rows["image_ok"] = True
    rows["height"], rows["width"] = np.random.default_rng(0).integers(100, 4000, (2, count))
    files = [(str(path), str(mask)), *((name, None) for name in names[1:])]
    return audit.AuditReport([], files, rows, {i: [1, 1] for i in range(300)}, findings, Options(9, None, 255))


def test_the_page_of_ten_thousand_images_stays_below_5_mib(tmp_path):
    big_report(tmp_path).to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5 * 2**20


def test_names_are_text_and_nothing_is_fetched(page):
    text = page.read_text("utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", text) == []


def test_a_path_that_leaves_the_folder_and_a_name_that_is_not_utf8_are_text(tmp_path):
    names = ["../../etc/x", "bad\udcff.png", "line\nbreak.png"]
    findings = [Finding("unreadable", "error", name, None, None, "It cannot be read.", "-") for name in names]
    files = [(name, None) for name in names]
    report = audit.AuditReport([], files, np.zeros(3, ROW), {}, findings, Options(None, None, 255))
    report.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "../../etc/x" in text
    assert "bad\\udcff.png" in text
    assert "line\nbreak.png set-aside" not in text, "a command with a line break must not be offered"
    report.to_json(tmp_path / "report.json")


def test_a_report_that_cannot_be_written_leaves_nothing_behind(page, tmp_path, monkeypatch):
    report = audit.AuditReport([], [], np.zeros(0, ROW), {}, [], Options(None, None, 255))
    with pytest.raises(OSError, match="nowhere"):
        report.to_html(tmp_path / "nowhere" / "report.html")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        report.to_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_each_group_has_its_remedy_and_a_clean_set_says_so(page, tmp_path):
    text = page.read_text("utf-8")
    for code in ("unreadable", "constant-image", "label-out-of-range", "orphan-image"):
        assert f'id="{code}-error"' in text
        assert audit.CODES[code].remedy in text
    audit.AuditReport([], [], np.zeros(0, ROW), {}, [], Options(None, None, 255)).to_html(tmp_path / "clean.html")
    assert "Nothing was found" in (tmp_path / "clean.html").read_text("utf-8")


# --- in a browser


def look_on(browser, width, dark=False):
    """As on a screen of this width; it stays so until the next look."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def start_browser(folder, *, script=True, dark=False, width=1280):
    chromium, chromedriver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no browser: install chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ] + ["--disable-sync", "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={folder}"]:
        options.add_argument(word)
    if not script:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    look_on(browser, width, dark)
    return browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


LUMINANCE = """
const of = color => {
  const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(v => {
    v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!color.endsWith(", 0)") && color !== "transparent") return color;
  }
  return "rgb(255, 255, 255)";
};
let worst = 21;
for (const e of document.querySelectorAll("p, td, th button, h1, h2, a, label, code, .chip, b, dt, dd, figcaption")) {
  if (!e.offsetParent || !e.textContent.trim()) continue;
  const [one, two] = [of(getComputedStyle(e).color), of(ground(e))].sort((a, b) => b - a);
  worst = Math.min(worst, (one + 0.05) / (two + 0.05));
}
return worst;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_is_readable(browser, page, width, dark):
    look_on(browser, width, dark)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(LUMINANCE) >= 4.5, "WCAG AA"
    cut = (
        "return [...document.querySelectorAll('.command code')].filter(c => c.scrollHeight > c.clientHeight + 1).length"
    )
    assert browser.execute_script(cut) == 0, "a command is shown whole"
    images = browser.execute_script("return [...document.images].map(i => [i.alt, i.decode && i.naturalWidth])")
    assert images
    assert all(alt for alt, _ in images)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark


def test_findings_are_filtered_and_sorted(browser, page):
    from selenium.webdriver.common.by import By

    look_on(browser, 1280)
    browser.get(page.as_uri())

    def shown():
        return [e.get_attribute("id") for e in browser.find_elements(By.CSS_SELECTOR, "details") if e.is_displayed()]

    everything = shown()
    assert {"unreadable-error", "constant-image-error", "label-out-of-range-error"} <= set(everything)
    search = browser.find_element(By.ID, "search")
    search.send_keys("04.png")
    assert shown() == ["constant-image-error"]
    assert "1 finding shown" in browser.find_element(By.ID, "shown").text
    search.clear()
    search.send_keys("x")
    search.send_keys("\b")
    assert shown() == everything
    for box in browser.find_elements(By.CSS_SELECTOR, "input[value=error]"):
        box.click()
    assert not any(name.endswith("-error") for name in shown())
    for box in browser.find_elements(By.CSS_SELECTOR, "input[value=error]"):
        box.click()

    def files():
        return [e.text for e in browser.find_elements(By.CSS_SELECTOR, "#unreadable-error tbody tr td:first-child")]

    before = files()
    button = browser.find_element(By.CSS_SELECTOR, "#unreadable-error th button")
    button.send_keys("\n")  # by keyboard
    head = browser.find_element(By.CSS_SELECTOR, "#unreadable-error th")
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys("\n")
    assert head.get_attribute("aria-sort") == "descending"
    assert sorted(files()) == sorted(before)
    assert files() != before or len(before) < 2


def test_a_hostile_name_runs_nothing_and_is_shown(browser, page):
    from selenium.webdriver.common.by import By

    browser.get(page.as_uri())
    assert HOSTILE in browser.find_element(By.ID, "unreadable-error").text
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0


@pytest.mark.parametrize(("setting", "said"), [("granted", "Copied"), ("denied", "Selected: press Ctrl+C")])
def test_the_command_is_copied_or_selected(browser, page, setting, said):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    for name in ("clipboard-write", "clipboard-read"):
        permission = {"name": name, "allowWithoutSanitization": False}
        browser.execute_cdp_cmd("Browser.setPermission", {"permission": permission, "setting": setting})
    browser.get(page.as_uri())
    command = browser.find_element(By.CSS_SELECTOR, "#unreadable-error .command code").text
    assert command.startswith("mkdir -p set-aside && mv -- ")
    button = browser.find_element(By.CSS_SELECTOR, "#unreadable-error button[data-copy]")
    assert button.text == "Copy the command"
    button.click()
    WebDriverWait(browser, 20).until(lambda _: button.text != "Copy the command")
    assert button.text == said
    if setting == "granted":
        there = browser.execute_async_script(
            "navigator.clipboard.readText().then(arguments[0], e => arguments[0]('' + e))"
        )
    else:
        there = browser.execute_script("return getSelection().toString()")
    assert there.strip() == command


def test_everything_can_be_reached_and_is_named_for_screen_readers(browser, page):
    browser.get(page.as_uri())
    unnamed = browser.execute_script(
        """return [...document.querySelectorAll("a, button, input, summary, [role=region], [role=img], table")]
        .filter(e => !(e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length)))
        .map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert browser.execute_script("return document.querySelectorAll('h1').length") == 1
    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert browser.execute_script("return document.querySelectorAll('th:not([scope])').length") == 0


def test_without_javascript_it_is_a_plain_page(page, tmp_path):
    from selenium.webdriver.common.by import By

    browser = start_browser(tmp_path, script=False)
    try:
        browser.get(page.as_uri())
        assert not browser.find_element(By.ID, "tools").is_displayed()
        assert "Every pixel is 9" in browser.find_element(By.TAG_NAME, "body").text
        assert not [e for e in browser.find_elements(By.CSS_SELECTOR, "button") if e.is_displayed()]
    finally:
        browser.quit()

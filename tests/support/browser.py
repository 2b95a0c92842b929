"""Chromium without a profile or network access: what a page requested, and what its console reported."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

AXE_SCRIPTS = [Path("/usr/share/javascript/axe-core/axe.min.js"), Path("node_modules/axe-core/axe.min.js")]


@contextmanager
def chromium(folder, *, size=(1280, 900)):
    """Yield a driver with an empty profile in `folder`. Skip the test if Chromium or its driver is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, server = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not server:
        pytest.skip("no chromium and chromedriver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-sync",
        "--metrics-recording-only",
        "--no-first-run",
        "--proxy-server=127.0.0.1:9",  # no request leaves this machine
        f"--user-data-dir={folder}",
        f"--window-size={size[0]},{size[1]}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(server))
    try:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get("about:blank")
        yield driver
    finally:
        driver.quit()


def set_color_scheme(driver, *, dark):
    """Show pages as to a user who prefers dark (or light) colours."""
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def get_requested_urls(driver):
    """Return the URLs requested since the last call, except those inside the page (data:) or inside Chromium."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "chrome:", "chrome-untrusted:", "about:"))]


def get_console_messages(driver):
    """Return the messages on the console."""
    return [entry["message"] for entry in driver.get_log("browser")]


def run_axe(driver, *, impacts=("serious", "critical")):
    """Return {rule: [HTML]} of the accessibility problems that axe-core finds. Skip the test if it is not installed."""
    script = next((path for path in AXE_SCRIPTS if path.exists()), None)
    if script is None:
        pytest.skip("no axe-core (npm install axe-core)")
    driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    driver.execute_cdp_cmd("Runtime.evaluate", {"expression": script.read_text()})
    violations = driver.execute_async_script("const done = arguments[0]; axe.run().then(r => done(r.violations))")
    return {
        violation["id"]: [node["html"] for node in violation["nodes"]]
        for violation in violations
        if violation["impact"] in impacts
    }

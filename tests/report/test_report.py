"""The report opens in a real browser: every figure there, nothing fetched, no complaint, readable on a phone."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray
from playwright.sync_api import Browser, Page, sync_playwright
from synthetic_runs import CONFIG, chain_group, finished, interrupted

from slmc.report import Scanned, figures, write_report, write_scan_report
from slmc.report.figures.structure import _centred, _wave_number, _wave_numbers
from slmc.report.notation import concise, plain
from slmc.report.stored import Stored, binned_errors, correlations
from slmc.systems.spins.measured import ALL_OBSERVABLES

DRAWS = True
ALL = {plot.name for plot in (figure(Stored(xarray.DataTree(), {})) for figure in figures.FIGURES)}
MEASURED = {"acceptance", "autocorrelation", "traces", "structure", "imaginary_time", "ladder", "curves", "points"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        reason = f"none of {', '.join(names)} is installed, so the report cannot be looked at."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


def assert_opens_well(browser: Browser, path: Path, expected: set[str]) -> None:
    """On a laptop and a phone, light and dark: the expected figures and no others, and no complaint or request."""
    complaints: list[str] = []
    requests: list[str] = []
    for width, scheme in ((1280, "light"), (390, "light"), (390, "dark")):
        page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else 0
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        assert {figure.get_attribute("id") for figure in page.locator("figure.plot").all()} == expected
        _assert_drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {path.as_uri()}


def _assert_drawn(page: Page) -> None:
    for figure in page.locator("figure.plot").all():
        assert figure.locator("svg").count() > 0
        for drawing in figure.locator("svg").all():
            box = drawing.bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert box["height"] > 60
        assert len(figure.locator("figcaption").inner_text()) > 40
    identifiers = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(identifiers) == len(set(identifiers))
    for link in page.locator("nav a").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param(finished(), ALL, id="full"),
        pytest.param(finished(baseline=False), ALL - {"comparison"}, id="no baseline"),
        pytest.param(finished(shape=(16,)), ALL, id="1d"),
        pytest.param(finished(shape=(4, 4, 6)), ALL, id="3d"),
        pytest.param(finished(shape=(5, 7), n_chains=1, n_draws=60), ALL, id="odd, one short chain"),
        pytest.param(interrupted("learn"), ALL - MEASURED - {"comparison"}, id="stopped while learning"),
        pytest.param(interrupted("thermalise"), {"thermalisation", "time"}, id="stopped while thermalising"),
        pytest.param((xarray.DataTree(), {}), set(), id="nothing at all"),
    ],
)
def test_opens_in_a_browser(browser: Browser, tmp_path: Path, run: tuple, expected: set[str]) -> None:
    path = tmp_path / "report.html"
    write_report(*run, CONFIG, path)
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]
    assert_opens_well(browser, path, expected)


def scan_points(baseline: bool) -> list[dict]:
    """Summaries of three temperatures, the last still running."""
    points = []
    for temperature in (0.5, 0.2, 0.05):
        _, summary = finished(n_draws=100, baseline=baseline, verdict="ok")
        for one in summary["observables"].values():
            one["value"] *= 1 - temperature
        where = {"temperature": temperature, "directory": f"T={temperature}", "point": f"T = {temperature:g}"}
        points.append(summary | where)
    points[2] |= {"phase": "measure", "verdict": "ok so far, the run is not finished", "warnings": ["slow"]}
    return points


def scanned(points: list[dict]) -> Scanned:
    described = {name: about.attributes for name, about in ALL_OBSERVABLES.items()}
    return Scanned(points, ["temperature"], {"temperature": {"symbol": "T", "units": "t"}}, described)


@pytest.mark.parametrize("baseline", [True, False])
def test_a_scan_opens_in_a_browser(browser: Browser, tmp_path: Path, baseline: bool) -> None:
    about = {"title": "Three temperatures", "directory": "scan", "version": "1", "n_points": 3}
    path = tmp_path / "report.html"
    write_scan_report(scanned(scan_points(baseline)), about, CONFIG, path)
    assert_opens_well(browser, path, {"scan", "costs"})
    page = browser.new_page()
    page.goto(path.as_uri())
    links = [link.get_attribute("href") for link in page.locator("#observables tbody a").all()]
    assert links == ["T=0.5/report.html", "T=0.2/report.html", "T=0.05/report.html"]
    assert "T = 0.05: slow" in page.locator("#warnings").inner_text()
    page.close()


def test_a_scan_that_has_only_begun_opens(browser: Browser, tmp_path: Path) -> None:
    _, begun = interrupted("thermalise")
    about = {"title": "None yet", "directory": "scan", "version": "1", "n_points": 3}
    points = [begun | {"temperature": 0.5, "directory": "T=0.5", "point": "T = 0.5"}]
    write_scan_report(scanned(points), about, CONFIG, tmp_path / "report.html")
    assert_opens_well(browser, tmp_path / "report.html", set())


def test_errors_of_the_disorder_average_stand_beside_its_monte_carlo_part(browser: Browser, tmp_path: Path) -> None:
    records, summary = finished(n_draws=100, baseline=False)
    one = {"value": 0.5, "error": 0.02, "r_hat": 1.0, "ess": 500, "monte_carlo_error": 0.0031}
    summary["observables"] = {"staggered_magnetization": one}
    write_report(records, summary, CONFIG, tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert "Monte Carlo error" in page.locator("#observables thead").inner_text()
    assert "0.0031" in page.locator("#observables tbody tr").inner_text()
    page.close()


def test_records_from_disk(browser: Browser, tmp_path: Path) -> None:
    """Records as the runner leaves them: a zarr store, the summary gone through JSON."""
    records, summary = finished(n_chains=2, n_draws=100)
    records.to_zarr(tmp_path / "records.zarr", consolidated=False)
    with xarray.open_datatree(tmp_path / "records.zarr", engine="zarr", consolidated=False) as opened:
        write_report(opened, json.loads(json.dumps(summary)), CONFIG, tmp_path / "report.html")
    assert_opens_well(browser, tmp_path / "report.html", ALL)


def test_numbers_stand_in_the_table(browser: Browser, tmp_path: Path) -> None:
    records, summary = finished(n_draws=100)
    name = "staggered_magnetization"
    summary["observables"] = {name: {"value": 0.53524, "error": 0.0013, "r_hat": 1.034, "ess": 61}}
    summary["baseline"]["observables"] = {name: {"value": 0.5302, "error": 0.0010, "r_hat": 1.0, "ess": 500}}
    write_report(records, summary, CONFIG, tmp_path / "report.html")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    row = page.locator("#observables tbody tr").inner_text()
    for written in ("0.5352(13)", "0.5302(10)", "+3.1 σ", "1.034", "61"):
        assert written in row
    assert page.locator("#observables .flag").count() == 3
    page.close()


def test_nothing_is_compared_with_an_exact_chain_that_has_not_converged(tmp_path: Path) -> None:
    records, summary = finished(n_draws=50)
    write_report(records, summary, CONFIG, tmp_path / "report.html")
    assert "× the exact chain’s" in (tmp_path / "report.html").read_text()
    summary["baseline"]["no_ratio"] = "of the exact chain: chains disagree (R-hat 1.980 > 1.01)"
    write_report(records, summary, CONFIG, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "× the exact chain’s" not in page
    assert "not compared with the exact chain; of the exact chain: chains disagree (R-hat 1.980" in page


def test_text_of_the_run_is_escaped(browser: Browser, tmp_path: Path) -> None:
    attack = "<script>document.title = 'owned'</script>"
    records, summary = finished(n_draws=50)
    records["measurement"]["energy"].attrs |= {"units": attack, "description": attack}
    summary |= dict.fromkeys(("title", "verdict", "directory", "version"), attack) | {"warnings": [attack]}
    summary["observables"][attack] = {"value": 1.0, "error": 0.1, "r_hat": None, "ess": None}
    write_report(records, summary, attack, tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text()
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("h1").inner_text() == attack
    assert page.title().startswith("<script>")
    page.close()


def test_a_failed_report_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("slmc.report.page.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_report(xarray.DataTree(), {}, CONFIG, path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(*finished(n_draws=60), CONFIG, tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf, 0.0])
def test_odd_numbers_are_drawn_around(tmp_path: Path, damage: float) -> None:
    """Draws not yet written (NaN), a weight of zero (−inf), an update that never moved: no figure fails or warns."""
    records, summary = finished(n_draws=40)
    records["measurement"]["log_ratio"][:, 20:] = damage
    records["learning"]["predicted"][-3:] = damage
    records["learning"]["history"][-1, 2] = damage
    if damage in (0, np.nan):
        records["measurement"]["magnetization_squared"][:] = damage
        records["measurement"]["staggered_magnetization_squared"][:, 10:] = damage
    summary |= {"acceptance": damage, "expected_acceptance": damage, "ess_per_second": damage}
    write_report(records, summary, CONFIG, tmp_path / "report.html")


def test_correlations_of_a_known_order() -> None:
    """A perfect antiferromagnet: S(q) = N at (π, π), so ⟨S_0·S_r⟩ = ±1 by sublattice."""
    factor = np.zeros((3, 4, 6))
    factor[:, 2, 3] = 24
    found = correlations(factor, 2)
    np.testing.assert_allclose(found.means, np.where(found.even, 1, -1), atol=1e-12)
    np.testing.assert_allclose(found.distances[:4], np.sqrt([0, 1, 2, 4]))


def test_correlations_agree_with_pairs() -> None:
    """The same averages from the spins themselves, pair by pair."""
    rng = np.random.default_rng(1)
    shape = (3, 4)
    spins = rng.normal(size=(*shape, 3))
    spins /= np.linalg.norm(spins, axis=-1, keepdims=True)
    factor = (np.abs(np.fft.fftn(spins, axes=(0, 1))) ** 2).sum(-1) / spins[..., 0].size
    sums: dict[float, list[float]] = {}
    for i in np.ndindex(*shape):
        for j in np.ndindex(*shape):
            steps = [min((a - b) % n, (b - a) % n) for a, b, n in zip(i, j, shape, strict=True)]
            sums.setdefault(float(np.hypot(*steps)), []).append(float(spins[i] @ spins[j]))
    found = correlations(factor[None], 2)
    np.testing.assert_allclose(found.distances, sorted(sums))
    np.testing.assert_allclose(found.means, [np.mean(sums[distance]) for distance in sorted(sums)], atol=1e-12)


def test_binned_errors_of_a_known_chain() -> None:
    """AR(1) noise: bins much longer than τ know the true error sqrt(2τ/n), single draws underestimate it."""
    rng = np.random.default_rng(2)
    series = chain_group(rng, (4,), 16, 4096, 8.0, 0.5)["density"].to_numpy()
    lengths, errors = binned_errors(series)
    np.testing.assert_allclose(errors[0], series.std() / np.sqrt(series.size), rtol=1e-3)
    slow = np.asarray(chain_group(rng, (4,), 16, 4096, 8.0, 0.5)["magnetization"])
    lengths, errors = binned_errors(slow)
    memory = np.exp(-1 / 8)
    expected = slow.std() / np.sqrt(slow.size) * np.sqrt((1 + memory) / (1 - memory))
    assert errors[lengths == 128] == pytest.approx(expected, rel=0.15)
    assert errors[0] < 0.4 * expected


@pytest.mark.parametrize("extent", [1, 2, 5, 6])
def test_wave_vectors_are_centred(extent: int) -> None:
    """The centred picture shows cos q at the q that its axis says."""
    q = 2 * np.pi * np.arange(extent) / extent
    np.testing.assert_allclose(_centred(np.cos(q)), np.cos(_wave_numbers(extent)), atol=1e-12)
    for index in range(extent):
        fraction = _wave_number(index, extent).replace("−", "-").replace("π", "") or "1"
        assert np.cos(q[index]) == pytest.approx(np.cos(np.pi * float(fraction)), abs=0.01)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (concise(0.53524, 0.0013), "0.5352(13)"),
        (concise(-1.62, 0.004), "−1.6200(40)"),
        (concise(None, None), "–"),
        (concise(np.nan, 0.1), "–"),
        (concise(0.5, None), "0.5"),
        (plain(14000), "14\u202f000"),
        (plain(0.0421234), "0.0421"),
        (plain(219.1, 2), "220"),
        (plain(None), "–"),
    ],
)
def test_notation(written: str, expected: str) -> None:
    assert written == expected

"""Opens reports that the real binary made, in a real browser: nothing is fetched, nothing fails, the verdict is on the
first screen, plots react, and dark, print and 390 pixels are fit to be read."""

import json
import pathlib
import shutil
import subprocess

import pytest
from conftest import binary

HERE = pathlib.Path(__file__).resolve().parent / "browser"


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium; `cargo xtask setup` installs it where apt-get works")


def write_data(folder: pathlib.Path) -> None:
    """Rows whose words tell the label, and what two models answered: the small one is often unsure and then wrong."""
    topics = [("card", ["lost", "blocked", "stolen"]), ("transfer", ["pending", "late", "missing"])]
    rows, outcomes = [], []
    for i in range(600):
        label, words = topics[i % 2]
        text = f"why is my {label} {words[i % 3]} since day {i}, please"
        other = topics[(i + 1) % 2][0]
        rows.append({"text": text, "label": label})
        sure = 0.5 + (i * 37 % 100) / 200
        wrong = sure < 0.6 and i % 3 > 0
        models = {
            "small": (other if wrong else label, sure, 12.0, 0.00001),
            "large": (other if i % 40 == 0 else label, 0.9, 700.0 + i % 90, 0.002),
        }
        answers = {
            name: {
                "answer": answer,
                "confidence": confidence,
                "quality": float(answer == label),
                "latency_ms": ms,
                "cost_usd": usd,
            }
            for name, (answer, confidence, ms, usd) in models.items()
        }
        outcomes.append({"id": str(i), "prompt": text, "label": label, "group": words[i % 3], "models": answers})
    for name, lines in (("rows.jsonl", rows), ("outcomes.jsonl", outcomes)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


COMMANDS = {
    "run/report.html": "pilot run --data rows.jsonl --model words --model recorded:outcomes.jsonl#large "
    "--model recorded:outcomes.jsonl#small --out run",
    "certify.html": "pilot certify --outcomes outcomes.jsonl --small small --large large --simulate 50",
    "replay.html": "pilot replay --outcomes outcomes.jsonl --small small --large large --resamples 50",
    "compare.html": "pilot compare --outcomes outcomes.jsonl",
    "down.html": "pilot compare --outcomes outcomes.jsonl --step-down",
    "errors.html": "pilot errors --outcomes outcomes.jsonl --small small --large large",
    "advise.html": "advise --use-case support-chat",
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    write_data(folder)
    for file, command in COMMANDS.items():
        report = [] if file.startswith("run/") else ["--report", file]
        done = subprocess.run([binary(), *command.split(), *report], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        figures = (folder / file).with_suffix(".json")
        assert isinstance(json.loads(figures.read_text()), dict), f"{figures} holds the figures"
        assert command.split()[0] in (folder / file).read_text(), "the command is on the page"
    return folder


def test_reports_are_fit_to_be_read_in_a_browser(reports):
    if not shutil.which("node") or not (HERE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("no Node.js with playwright-core; `cargo xtask setup` installs both")
    files = [str(reports / file) for file in COMMANDS]
    done = subprocess.run(
        ["node", "report.mjs", chromium(), *files], cwd=HERE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(seen) == len(files)
    bad = {pathlib.Path(one["file"]).name: one["bad"] for one in seen if one["bad"]}
    assert not bad, json.dumps(bad, indent=1)
    # Checks that looked at nothing would pass on anything.
    assert sum(one["plots"] for one in seen) >= 8 and sum(one["sliders"] for one in seen) >= 2

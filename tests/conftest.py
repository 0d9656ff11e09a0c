"""Starts real gateways for the tests of the official clients: one that plays the LLM from a recording, and the one
under test in front of it."""

import json
import os
import pathlib
import re
import subprocess
import time
import urllib.request

import pytest
import reference_figures

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEY = "test-key-of-a-client"

RECORDED = {
    "What is the capital of France?": "Paris",
    "Count to five.": "one two three four five",
    "Is this spam? <text>win a prize</text>": "spam",
}


def binary() -> pathlib.Path:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = target / "release" / "understudy"
    assert path.exists(), f"{path} is missing: run `cargo xtask test`, which builds it"
    return path


def models_dir() -> pathlib.Path:
    default = pathlib.Path.home() / ".understudy" / "models"
    return pathlib.Path(os.environ.get("UNDERSTUDY_MODELS", default))


class Gateway:
    """A running `understudy serve`."""

    def __init__(self, folder: pathlib.Path, name: str, config: str, **environment: str):
        path = folder / f"{name}.toml"
        path.write_text(config)
        self.log = folder / f"{name}.log"
        self.process = subprocess.Popen(
            [binary(), "--config", path, "serve"],
            stderr=self.log.open("w"),
            env=os.environ | environment,
        )
        self.path = path
        self.url = self._wait()

    def _wait(self) -> str:
        for _ in range(600):
            found = re.search(r"http://[0-9.:]+", self.log.read_text())
            if found:
                url = found.group(0)
                with urllib.request.urlopen(f"{url}/ready") as response:
                    assert response.status == 200
                return url
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"the gateway did not start: {self.log.read_text()}")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gateways")


@pytest.fixture(scope="session")
def llm(folder):
    rows = [
        {"id": str(i), "prompt": prompt, "models": {"gpt-4o-mini": {"answer": answer, "tokens_in": 10, "tokens_out": 5}}}
        for i, (prompt, answer) in enumerate(RECORDED.items())
    ]
    (folder / "recorded.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    gateway = Gateway(
        folder,
        "llm",
        '[server]\nlisten = "127.0.0.1:0"\ndefault_upstream = "file"\n'
        '[store]\npath = "llm.db"\n[upstream.file]\nrecorded = "recorded.jsonl"\n',
    )
    yield gateway
    assert gateway.stop() == 0


@pytest.fixture(scope="session")
def gateway(folder, llm):
    local = ""
    for name in ("minilm", "smollm2"):
        if (models_dir() / name / "installed.json").exists():
            local += f"[local.{name}]\n"
        else:
            print(f"skipped: {name} is not installed in {models_dir()}")
    gateway = Gateway(
        folder,
        "gateway",
        '[server]\nlisten = "127.0.0.1:0"\ndefault_upstream = "llm"\ndefault_model = "gpt-4o-mini"\n'
        'api_keys = ["env:GATEWAY_KEY"]\n'
        f'[models]\ndir = {json.dumps(str(models_dir()))}\n'
        f'[store]\npath = "gateway.db"\n[upstream.llm]\nbase_url = "{llm.url}/v1"\n{local}'
        '[task.spam]\nlabels = ["spam", "ham"]\n'
        '[task.spam.match]\nmetadata = { task = "spam" }\n'
        '[task.spam.input]\nafter = "<text>"\nbefore = "</text>"\n',
        GATEWAY_KEY=KEY,
    )
    yield gateway
    assert gateway.stop() == 0


def need(name: str) -> None:
    if not (models_dir() / name / "installed.json").exists():
        pytest.skip(f"{name} is not installed; `understudy pull {name}` does it")


def pytest_terminal_summary(terminalreporter):
    """The largest difference of every comparison with another package."""
    if reference_figures.LARGEST:
        terminalreporter.write_sep("-", "largest difference from the reference packages")
    for what, (worst, count, allowed) in sorted(reference_figures.LARGEST.items()):
        terminalreporter.write_line(f"{what:<58} {worst:9.2e} over {count:>6} values, allowed {allowed:g}")

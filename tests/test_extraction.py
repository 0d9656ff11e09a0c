"""An extractor from marked texts to JSON behind the gateway: trained, measured and asked through HTTP."""

import json
import random
import subprocess
import urllib.request

import pytest
from conftest import Gateway, binary, models_dir, need

CITIES = ["Rome", "New York", "São Paulo", "Tokyo", "Cape Town", "Paris"]
DATES = ["monday", "2 may", "next week", "tomorrow", "friday evening"]


def run(*args):
    done = subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    need("minilm")
    folder, rng = tmp_path_factory.mktemp("extraction"), random.Random(3)
    starts = ["please book a flight to", "i want to go to", "get me a ticket for", "how is the weather in"]
    rows = []
    for _ in range(240):
        words, tags = rng.choice(starts).split(), []
        tags = ["O"] * len(words)
        for field, values in [("city", CITIES), ("date", DATES)]:
            value = rng.choice(values).split()
            words += value
            tags += [f"B-{field}"] + [f"I-{field}"] * (len(value) - 1)
        rows.append({"tokens": words, "tags": tags})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    out = folder / "slots"
    result = run(
        "adapt", "finetune", "--task", "extract", "--data", folder / "train.jsonl", "--out", out, "--epochs", 4, "--json"
    )
    return folder, out, result


def test_simple_slots_are_learned_and_a_second_training_gives_the_same_model(trained):
    folder, out, result = trained
    assert result["fields"] == ["city", "date"]
    assert result["metrics"]["entity_f1"]["estimate"] > 0.9, result["metrics"]
    again = run(
        "adapt", "finetune", "--task", "extract", "--data", folder / "train.jsonl", "--out", folder / "again",
        "--name", "slots", "--epochs", 4, "--json",
    )  # fmt: skip
    assert again["hash"] == result["hash"]


def test_the_gateway_answers_with_the_objects_of_the_text(trained):
    folder, out, _ = trained
    config = f'[server]\nlisten = "127.0.0.1:0"\n[models]\ndir = "{models_dir()}"\n[store]\npath = "extraction.db"\n[local.slots]\nmodel = "slots"\n'
    gateway = Gateway(folder, "extraction", config)
    try:
        body = {"model": "slots", "messages": [{"role": "user", "content": "I want to go to São Paulo next week"}]}
        request = urllib.request.Request(
            f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)
    finally:
        gateway.stop()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"city": ["São Paulo"], "date": ["next week"]}


def test_the_pilot_measures_its_fields(trained):
    folder, out, _ = trained
    report = run(
        "pilot", "run", "--task", "extract", "--model", out, "--data", folder / "train.jsonl", "--out", folder / "run",
        "--json",
    )  # fmt: skip
    assert "slots" in json.dumps(report)

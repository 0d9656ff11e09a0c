"""Asks `understudy-bench reference` for our figures, and keeps the largest difference of each comparison for the lines
that conftest.py prints at the end."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: What was compared -> (largest difference, number of values, allowed).
LARGEST: dict = {}


def ours(requests):
    """Answers of `understudy-bench reference` to (function, arguments) pairs."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = target / "release" / "understudy-bench"
    assert binary.exists(), f"{binary} is missing: cargo build --release --package understudy-bench"
    lines = "\n".join(json.dumps({"function": name, "arguments": arguments}) for name, arguments in requests)
    done = subprocess.run([binary, "reference"], input=lines + "\n", capture_output=True, text=True, check=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == len(requests), done.stderr[:500]
    for reply in replies:
        assert "value" in reply, reply
    return [reply["value"] for reply in replies]


def compare(what, ours, theirs, allowed, relative_to=0.0):
    """Holds our value against theirs. NaN of theirs is null of ours. With `relative_to`, differences of values above it
    are relative."""
    worst, count, _ = LARGEST.get(what, (0.0, 0, allowed))
    if theirs != theirs or ours is None:
        assert ours is None and theirs != theirs, f"{what}: ours {ours}, theirs {theirs}"
        difference = 0.0
    else:
        difference = abs(float(ours) - float(theirs))
        if relative_to and abs(theirs) > relative_to:
            difference /= abs(theirs)
    LARGEST[what] = (max(worst, difference), count + 1, allowed)
    assert difference <= allowed, f"{what}: ours {ours!r}, theirs {theirs!r}, difference {difference:.3e} > {allowed}"


def data_folder():
    """The folder of public data sets, if it is there."""
    folder = pathlib.Path(os.environ.get("UNDERSTUDY_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None

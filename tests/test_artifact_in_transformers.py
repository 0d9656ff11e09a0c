"""What `adapt finetune` writes is a Hugging Face model: `transformers` (and `peft`, for adapters) load it and give the
probabilities that the product gives."""

import importlib.util
import json
import math
import random
import subprocess

import numpy as np
import pytest
from conftest import binary, models_dir, need
from reference_figures import compare

torch = pytest.importorskip("torch", reason="crates/bench/reference/training/requirements.txt has it")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

SUBJECTS = {
    "card": ["my card", "the credit card", "a new card", "this debit card"],
    "transfer": ["the transfer", "a bank transfer", "money sent abroad", "the standing order"],
    "login": ["my password", "the login", "the account access", "the security code"],
}
VERBS = ["does not work", "was lost yesterday", "is late again", "costs too much", "was refused twice", "needs a change"]


def run(*args):
    done = subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    need("minilm")
    rng = random.Random(7)
    rows = [
        {"text": f"{rng.choice(['please help,', 'hello,', 'why is it that'])} {thing} {verb}", "label": label}
        for label, things in SUBJECTS.items()
        for thing in things
        for verb in VERBS
    ]
    rng.shuffle(rows)
    file = tmp_path_factory.mktemp("examples") / "examples.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


def logits(folder, encoder, texts):
    """By the recipe in docs/adapt.md."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    head = safetensors.load_file(folder / "head.safetensors")
    manifest = json.loads((folder / "artifact.json").read_text())
    out = []
    with torch.no_grad():
        for text in texts:
            tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=manifest["max_tokens"])
            vector = encoder(**tokens).last_hidden_state.mean(1)
            vector = torch.nn.functional.normalize(vector, dim=-1)
            out.append((vector @ head["weights"].T + head["bias"])[0].double().numpy())
    return np.array(out), manifest


@pytest.mark.parametrize("method", ["full", "lora"])
def test_transformers_gives_the_same_probabilities(method, examples, tmp_path):
    folder = tmp_path / method
    run("adapt", "finetune", "--method", method, "--data", examples, "--out", folder, "--epochs", 2, "--dtype", "f32")
    run(
        "pilot", "run", "--model", folder, "--data", examples, "--task", "classify", "--out",
        tmp_path / "run", "--json",
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "outcomes.jsonl").read_text().splitlines()]
    assert len(rows) > 20
    answers = [row["models"][method] for row in rows]
    texts = [row["prompt"] for row in rows]

    encoders = {"transformers": transformers.AutoModel.from_pretrained(folder)}
    if method == "lora" and importlib.util.find_spec("peft"):
        import peft

        base = transformers.AutoModel.from_pretrained(models_dir() / "minilm")
        encoders["peft"] = peft.PeftModel.from_pretrained(base, folder / "adapter")
    for name, encoder in encoders.items():
        theirs, manifest = logits(folder, encoder.eval(), texts)
        scaled = theirs / manifest["temperature"]
        p = np.exp(scaled - scaled.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        assert [manifest["labels"][i] for i in p.argmax(1)] == [answer["answer"] for answer in answers]
        # The confidence's log-odds are a difference of logits, times a constant.
        odds = lambda q: math.log(q / (1.0 - q)) * manifest["temperature"]
        sure = [(answer["confidence"], q) for answer, q in zip(answers, p.max(1)) if q < 0.999]
        assert sure, "some answers are not certain"
        for mine, q in sure:
            compare(f"{name}, logits of a {method} artifact", odds(mine), odds(q), 1e-4)


def test_transformers_loads_what_pruning_leaves(examples, tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "pruned"
    run("adapt", "finetune", "--method", "full", "--data", examples, "--out", whole, "--epochs", 1, "--dtype", "f32")
    sizes = ["--layers", 3, "--heads", 8, "--ffn", 512]
    run("adapt", "prune", "--model", whole, "--data", examples, *sizes, "--epochs", 1, "--out", folder, "--json")
    run("pilot", "run", "--model", folder, "--data", examples, "--task", "classify", "--out", tmp_path / "run", "--json")
    rows = [json.loads(line) for line in (tmp_path / "run" / "outcomes.jsonl").read_text().splitlines()]
    answers = [row["models"]["pruned"] for row in rows]

    encoder, loading = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert (encoder.config.num_hidden_layers, encoder.config.intermediate_size) == (3, 512)
    assert not [name for name in loading["missing_keys"] if "pooler" not in name], loading
    theirs, manifest = logits(folder, encoder.eval(), [row["prompt"] for row in rows])
    assert manifest["compression"]["method"] == "layers 3, heads 8, ffn 512"
    assert manifest["compression"]["bytes"] < 0.75 * manifest["compression"]["bytes_before"]
    scaled = theirs / manifest["temperature"]
    p = np.exp(scaled - scaled.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert [manifest["labels"][i] for i in p.argmax(1)] == [answer["answer"] for answer in answers]
    for answer, q in zip(answers, p.max(1)):
        compare("transformers, confidence of a pruned artifact", answer["confidence"], q, 1e-5)

"""Generative models on their way out and back: jobs for TRL, Axolotl and torchtune have settings that these packages know;
what `adapt merge` writes loads in `transformers` and finds the same answers as likely as we do; what comes back from there
is, to the last bit, what was written here."""

import ast
import hashlib
import importlib.util
import json
import pathlib
import subprocess

import pytest
from conftest import binary, models_dir, need
from reference_figures import compare

SYSTEM = "Say what is asked for as JSON."
CITIES = ["Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Seoul", "Tunis", "Berne", "Dakar", "Hanoi"]


def run(*args):
    command = [binary(), "--models-dir", models_dir(), "--json", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def conversations(file, cities):
    rows = [
        {"messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"What is the weather in {city} on day {day}?"},
            {"role": "assistant", "content": json.dumps({"city": city, "day": day})},
        ]}
        for day, city in enumerate(cities)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def source(module, *parts):
    """The source of a package that need not be importable here."""
    found = importlib.util.find_spec(module)
    if found is None:
        pytest.skip(f"{module} is not installed")
    return ast.parse(pathlib.Path(found.submodule_search_locations[0]).joinpath(*parts).read_text())


def fields(tree):
    """All names that classes of a module annotate."""
    return {
        line.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def keywords(tree, name):
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", None) == name]
    assert len(calls) == 1
    return {keyword.arg for keyword in calls[0].keywords}


def job(tmp_path, framework, *more):
    data = conversations(tmp_path / "chats.jsonl", CITIES)
    out = tmp_path / framework
    told = run("adapt", "recipe", "--framework", framework, "--data", data, "--out", out, "--test-share", 0.3, *more)
    recipe = json.loads((out / "recipe.json").read_text())
    for name, expected in recipe["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == expected
    lines = [json.loads(line) for name in ("train", "held_out") for line in (out / f"data/{name}.jsonl").open()]
    assert len(lines) == len(CITIES) == told["n_train"] + told["n_held_out"]
    assert all([m["role"] for m in line["messages"]] == ["system", "user", "assistant"] for line in lines)
    return out


def test_a_trl_job_uses_settings_that_trl_and_peft_have(tmp_path):
    script = ast.parse((job(tmp_path, "trl", "--base", "smollm2") / "train.py").read_text())
    known = fields(source("trl", "trainer", "sft_config.py")) | fields(source("trl", "trainer", "base_config.py"))
    known |= fields(source("transformers", "training_args.py"))
    assert keywords(script, "SFTConfig") <= known
    assert keywords(script, "LoraConfig") <= fields(source("peft", "tuners", "lora", "config.py")) | {"task_type"}
    trainer = source("trl", "trainer", "sft_trainer.py")
    init = next(
        f for c in trainer.body if isinstance(c, ast.ClassDef) and c.name == "SFTTrainer"
        for f in c.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"
    )  # fmt: skip
    assert keywords(script, "SFTTrainer") <= {a.arg for a in init.args.args + init.args.kwonlyargs}


def test_an_axolotl_job_uses_settings_that_axolotl_has(tmp_path):
    yaml = pytest.importorskip("yaml")
    written = yaml.safe_load((job(tmp_path, "axolotl", "--base", "smollm2") / "axolotl.yml").read_text())
    found = importlib.util.find_spec("axolotl")
    if found is None:
        pytest.skip("axolotl is not installed")
    schemas = pathlib.Path(found.submodule_search_locations[0], "utils", "schemas").glob("*.py")
    known = set().union(*(fields(ast.parse(file.read_text())) for file in schemas))
    known |= fields(source("transformers", "training_args.py"))
    assert set(written) <= known, set(written) - known
    assert all(set(dataset) <= known for dataset in written["datasets"])
    assert isinstance(written["learning_rate"], float) and written["seed"] == 0


def test_a_torchtune_job_names_builders_and_settings_that_torchtune_has(tmp_path):
    yaml = pytest.importorskip("yaml")
    hub = "Qwen/Qwen2.5-0.5B-Instruct"
    out = job(tmp_path, "torchtune", "--base", "qwen2.5-0.5b", "--hub", hub)
    written = yaml.safe_load((out / "torchtune.yaml").read_text())
    builders = source("torchtune", "models", "qwen2_5", "_model_builders.py")
    name = written["model"]["_component_"].rsplit(".", 1)[1]
    function = next(f for f in builders.body if isinstance(f, ast.FunctionDef) and f.name == name)
    assert set(written["model"]) - {"_component_"} <= {a.arg for a in function.args.args}
    tune = pathlib.Path(importlib.util.find_spec("torchtune").submodule_search_locations[0])
    theirs = tune.parent / "recipes" / "configs" / "qwen2_5" / "0.5B_lora_single_device.yaml"
    known = yaml.safe_load(theirs.read_text())
    assert set(written) - {"save_adapter_weights_only"} <= set(known), set(written) - set(known)
    # All that their configuration has is there, but for the profiler, which is off.
    assert set(known) - set(written) <= {"profiler"}


def test_a_merged_model_answers_in_transformers_and_comes_back_as_it_went(tmp_path):
    torch = pytest.importorskip("torch", reason="crates/bench/reference/training/requirements.txt has it")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    need("smollm2")
    data = conversations(tmp_path / "chats.jsonl", CITIES)
    held_out = conversations(tmp_path / "held_out.jsonl", ["Accra", "Sofia", "Minsk", "Amman"])
    slots, hub, one = tmp_path / "slots", tmp_path / "hub", ["--threads", 1]
    run("adapt", "finetune", "--method", "lora", "--base", "smollm2", "--data", data, "--test-share", 0, "--rank", 4,
        "--rate", 3e-3, "--epochs", 1, "--batch", 4, "--out", slots, *one)  # fmt: skip
    whole = tmp_path / "whole"
    run("adapt", "merge", "--model", slots, "--data", held_out, "--name", "whole", "--out", whole, *one)
    run("adapt", "merge", "--model", slots, "--data", held_out, "--to", "safetensors", "--out", hub, *one)
    back = tmp_path / "back"
    told = run("adapt", "import", "--from", hub, "--base", "smollm2", "--data", held_out, "--name", "whole", "--out", back,
               *one)  # fmt: skip
    assert (back / "model.gguf").read_bytes() == (whole / "model.gguf").read_bytes()
    assert told["served"]["f16"]["mean_kl"] < 1e-3 and told["tokeniser_compared"]

    adapter = tmp_path / "adapter"
    again = run("adapt", "import", "--from", slots / "adapter", "--base", "smollm2", "--data", held_out, "--name", "slots",
                "--out", adapter, *one)  # fmt: skip
    assert (adapter / "adapter.gguf").read_bytes() == (slots / "adapter.gguf").read_bytes()

    # The loss of the held-out answers, by transformers' template, tokeniser and forward pass.
    tokenizer = transformers.AutoTokenizer.from_pretrained(hub)
    model = transformers.AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32, attn_implementation="eager")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def loss(model):
        losses = []
        for line in held_out.open():
            messages = json.loads(line)["messages"]
            text = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            prompt = tokenizer.encode(text, add_special_tokens=False)
            answer = tokenizer.encode(messages[-1]["content"], add_special_tokens=False) + [end]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
            rows = logits[len(prompt) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(rows, torch.tensor(answer)).item())
        return sum(losses) / len(losses)

    compare("a merged generative model, loss in transformers", told["metrics"]["loss"]["estimate"], loss(model), 1e-4)

    base = tmp_path / "base"
    run("adapt", "merge", "--model", "smollm2", "--data", held_out, "--to", "safetensors", "--out", base, *one)
    bare = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    adapted = peft.PeftModel.from_pretrained(bare, slots / "adapter")
    compare("an imported adapter, loss in peft", again["metrics"]["loss"]["estimate"], loss(adapted), 1e-4)

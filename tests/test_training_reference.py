"""Ten steps of our training against PyTorch's: the same weights, the same batches, no dropout, AdamW. Compares losses,
the gradient of every tensor in the first step, and every weight after the last."""

import json
import random

import numpy as np
import pytest
from conftest import models_dir
from reference_figures import ROOT, compare, ours

torch = pytest.importorskip("torch", reason="crates/bench/reference/training/requirements.txt has it")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

FIXTURES = ROOT / "crates" / "model" / "tests" / "encoder"
OUTPUTS, STEPS, CLIP, DECAY, SMOOTHING = 3, 10, 1.0, 0.01, 0.1
WEIGHTS = [1.0, 2.0, 0.5]


def batches(vocabulary, longest, seed):
    """Texts of mixed lengths: ours come without padding, PyTorch's with a mask."""
    rng = random.Random(seed)
    text = lambda: [rng.randrange(4, vocabulary) for _ in range(rng.randint(2, longest))]
    return [[(text(), rng.randrange(OUTPUTS)) for _ in range(6)] for _ in range(STEPS)]


class Lora(torch.nn.Module):
    def __init__(self, base, a, b, scale):
        super().__init__()
        self.base, self.scale = base, scale
        self.lora_A, self.lora_B = (torch.nn.Parameter(x.clone()) for x in (a, b))

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_A.T @ self.lora_B.T)


def pooled(model, batch, cls):
    longest = max(len(ids) for ids, _ in batch)
    pad = model.config.pad_token_id or 0
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in batch])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in batch])
    # MPNet finds positions by looking for padding tokens: the texts hold none.
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    if cls:
        vectors = states[:, 0]
    else:
        vectors = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(vectors, dim=1)


def train(model, head, steps, rates, cls, expected_gradients):
    named = [*model.named_parameters(), *((f"classifier.{n}", p) for n, p in head.named_parameters())]
    trained = [(name, p) for name, p in named if p.requires_grad]
    groups = []
    for name, p in trained:
        plain = "norm" in name.lower() or name.endswith("bias")
        rate = rates[1] if name.startswith("classifier") else rates[0]
        groups.append({"params": [p], "lr": rate, "weight_decay": 0.0 if plain else DECAY})
    optimiser = torch.optim.AdamW(groups)
    weight = torch.tensor(WEIGHTS)
    losses, norms, gradients = [], [], {}
    for step, batch in enumerate(steps):
        targets = torch.tensor([target for _, target in batch])
        logits = head(pooled(model, batch, cls))
        loss = torch.nn.functional.cross_entropy(logits, targets, weight=weight, label_smoothing=SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        if step == 0 and expected_gradients:
            gradients = {name: p.grad.clone() for name, p in trained if p.grad is not None}
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in trained], CLIP).item())
        optimiser.step()
    return losses, norms, gradients


def question(folder, scope, steps, rates, head, out, gradients):
    params = {
        "objective": {"classes": {"smoothing": SMOOTHING, "weights": WEIGHTS}},
        "rate": rates[0], "head_rate": rates[1], "layer_decay": 1.0, "weight_decay": DECAY, "clip": CLIP,
        "dropout": 0.0, "head_dropout": 0.0,
    }  # fmt: skip
    return (
        "training_steps",
        {
            "folder": str(folder), "scope": scope, "level": "unit_vector", "params": params, "batches": steps,
            "outputs": OUTPUTS, "head": head, "out": str(out), "gradients": gradients,
        },
    )  # fmt: skip


def start(folder):
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    if getattr(model, "pooler", None) is not None:
        model.pooler.requires_grad_(False)
    torch.manual_seed(5)
    head = torch.nn.Linear(model.config.hidden_size, OUTPUTS)
    return model, head, [head.weight.flatten().tolist(), head.bias.tolist()]


def same(what, ours, theirs, allowed):
    """The largest difference, relative to the largest number."""
    ours, theirs = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    assert ours.shape == theirs.shape, what
    compare(what, np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-3), 0.0, allowed)


def check(name, folder, scope, rates, tmp_path, cls, allowed):
    model, head, numbers = start(folder)
    steps = batches(model.config.vocab_size, 24, 3)
    small = folder.is_relative_to(FIXTURES)
    if not scope["full"]["words"]:
        model.get_input_embeddings().weight.requires_grad_(False)
    [mine] = ours([question(folder, scope, steps, rates, numbers, tmp_path, small)])
    losses, norms, gradients = train(model, head, steps, rates, cls, small)
    for a, b in zip(mine["losses"], losses):
        compare(f"PyTorch {name}: loss of a step", a, b, allowed)
    for a, b in zip(mine["norms"], norms):
        compare(f"PyTorch {name}: norm of a gradient", a, b, 2 * allowed, relative_to=1e-3)
    if small:
        assert set(mine["gradients"]) == {n for n in gradients if "position_ids" not in n}
        for tensor, grad in mine["gradients"].items():
            same(f"PyTorch {name}: gradient of a tensor", grad, gradients[tensor], 1e-4)
    same(f"PyTorch {name}: weights of the head", mine["head"][0], head.weight.detach(), 2 * allowed)
    trained = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    before = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    for tensor, value in model.state_dict().items():
        if tensor.startswith("pooler"):
            continue
        if tensor.endswith(("key.bias", "k_lin.bias", "attn.k.bias")):
            # The softmax does not see them: their gradient is rounding, which AdamW turns into steps of either sign.
            for weights in (trained[tensor], value):
                assert (weights - before[tensor]).abs().max() <= 1.1 * STEPS * rates[0]
            continue
        same(f"PyTorch {name}: weights after {STEPS} steps", trained[tensor], value, 2 * allowed)


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet"])
def test_full_training_equals_pytorch(name, tmp_path):
    scope = {"full": {"words": True, "frozen_layers": 0}}
    check(name, FIXTURES / name, scope, (1e-3, 1e-2), tmp_path, name == "distilbert", 2e-5)


def test_minilm_training_equals_pytorch(tmp_path):
    folder = models_dir() / "minilm"
    if not (folder / "model.safetensors").exists():
        pytest.skip("minilm is not installed; `understudy pull minilm` does it")
    scope = {"full": {"words": False, "frozen_layers": 0}}
    check("minilm", folder, scope, (5e-5, 1e-3), tmp_path, False, 1e-4)


def test_lora_training_equals_pytorch(tmp_path):
    folder = FIXTURES / "bert"
    model, head, numbers = start(folder)
    model.requires_grad_(False)
    targets = ["query", "key", "value", "output", "up", "down"]
    scope = {"lora": {"rank": 4, "alpha": 8.0, "targets": targets}}
    steps, rates = batches(model.config.vocab_size, 24, 4), (1e-2, 1e-2)
    [_] = ours([question(folder, scope, [], rates, numbers, tmp_path, False)])
    adapter = tmp_path / "adapter" / "adapter_model.safetensors"
    begin = safetensors.load_file(adapter)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and len(config["target_modules"]) == 6
    adapted = {}
    for key in begin:
        if key.endswith("lora_A.weight"):
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            parent, _, leaf = path.rpartition(".")
            a, b = (begin[key.replace("lora_A", part)] for part in ("lora_A", "lora_B"))
            adapted[path] = Lora(model.get_submodule(path), a, b, 2.0)
            setattr(model.get_submodule(parent), leaf, adapted[path])
    assert len(adapted) == 6 * model.config.num_hidden_layers
    [mine] = ours([question(folder, scope, steps, rates, numbers, tmp_path, True)])
    losses, _, gradients = train(model, head, steps, rates, False, True)
    for a, b in zip(mine["losses"], losses):
        compare("PyTorch LoRA: loss of a step", a, b, 5e-5)
    for tensor, grad in mine["gradients"].items():
        theirs = gradients[tensor.removesuffix(".weight") if "lora_" in tensor else tensor]
        same("PyTorch LoRA: gradient of a tensor", grad, theirs, 1e-4)
    trained = safetensors.load_file(adapter)
    merged = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    for path, module in adapted.items():
        for part in ("lora_A", "lora_B"):
            theirs = getattr(module, part).detach()
            same("PyTorch LoRA: adapters after ten steps", trained[f"base_model.model.{path}.{part}.weight"], theirs, 1e-4)
        whole = module.base.weight + 2.0 * module.lora_B @ module.lora_A
        same("PyTorch LoRA: merged weights after ten steps", merged[f"{path}.weight"], whole.detach(), 1e-4)

"""Ten steps of an adapter's training on small Llama and Qwen2 models against PyTorch's: the same weights, the same texts,
AdamW. The adapters that we write are loaded by PEFT, before and after, and the trained model says the same there."""

import random

import pytest
from reference_figures import ours
from test_training_reference import same

torch = pytest.importorskip("torch", reason="crates/bench/reference/training/requirements.txt has it")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft", reason="it loads the adapters")

STEPS, RATE, DECAY, CLIP = 10, 1e-2, 0.01, 1.0
SHAPE = dict(
    vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2,
)  # fmt: skip


def model_of(family, folder):
    torch.manual_seed(3)
    if family == "llama":
        config = transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_theta=5000.0)
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.Qwen2Config(**SHAPE, tie_word_embeddings=False)
        model = transformers.Qwen2ForCausalLM(config)
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(p, std=0.3)
    for name, p in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(p, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder


def texts():
    rng = random.Random(5)
    made = []
    for _ in range(6):
        tokens = [rng.randrange(96) for _ in range(rng.randint(6, 30))]
        made.append((tokens, rng.randint(1, len(tokens) - 2)))
    return made


def loss_of(model, examples):
    """The mean over all answers' tokens, text by text: nothing is padded."""
    total, count = 0.0, 0
    for tokens, answer in examples:
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
        targets = torch.tensor(tokens[answer:])
        total = total + torch.nn.functional.cross_entropy(logits[answer - 1 : -1], targets, reduction="sum")
        count += len(targets)
    return total / count


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_an_adapters_training_equals_pytorch(family, tmp_path):
    folder, examples = model_of(family, tmp_path / "base"), texts()
    targets = ["query", "key", "value", "output", "gate", "up", "down"]
    params = {
        "epochs": STEPS, "batch": len(examples), "rate": RATE, "weight_decay": DECAY, "warmup": 0.0,
        "schedule": "constant", "clip": CLIP,
    }  # fmt: skip
    job = {
        "folder": str(folder), "lora": {"rank": 4, "alpha": 8.0, "targets": targets}, "params": params,
        "texts": examples, "out": str(tmp_path),
    }  # fmt: skip
    [mine] = ours([("generative_steps", job)])

    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "start", is_trainable=True)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * SHAPE["num_hidden_layers"]
    key = lambda name: name.removeprefix("base_model.model.").replace(".default", "")
    optimiser = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        loss = loss_of(model, examples)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {key(name): p.grad.clone() for name, p in trained.items()}
            assert set(gradients) == set(mine["gradients"])
            for name, theirs in gradients.items():
                same(f"PyTorch {family} adapter: gradient of a tensor", mine["gradients"][name], theirs, 1e-4)
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]
    same(f"PyTorch {family} adapter: losses of the steps", mine["losses"], losses, 1e-4)

    end = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    end = peft.PeftModel.from_pretrained(end, tmp_path / "end")
    for (name, theirs), (_, written) in zip(model.state_dict().items(), end.state_dict().items()):
        if "lora_" in name:
            same(f"PyTorch {family} adapter: weights after {STEPS} steps", written, theirs.detach(), 1e-3)
    # What PEFT makes of the adapter that we wrote.
    says = []
    with torch.no_grad():
        for tokens, answer in examples:
            logits = end(input_ids=torch.tensor([tokens])).logits[0]
            says.append(torch.log_softmax(logits[answer - 1 : -1].double(), dim=-1))
    worst = (torch.cat(says).flatten() - torch.tensor(mine["log_probabilities"], dtype=torch.float64)).abs().max()
    assert worst < 1e-4, worst

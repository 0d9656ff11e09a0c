"""PyTorch as the training benchmark's peer: transformers' BertModel with mean pooling and a linear head, on two threads.

    python pytorch.py MODEL_DIR METHOD [THREADS]

METHOD is `full` (word embeddings frozen), `all` (nothing frozen) or `lora` (rank 8, alpha 16, on queries and values).
Fused AdamW, no padding, no dropout unless a job says so. Answers one JSON line for each JSON line on standard input:

    {"ids": [[101, …], …], "labels": [0, …], "steps": 5, "dropout": 0.0}  →  {"ms": […], "losses": […], "peak_mb": 812.0}

Needs torch and transformers.
"""

import json
import resource
import sys
import time

import torch
import transformers


class Lora(torch.nn.Module):
    """What PEFT puts in place of a linear layer."""

    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base = base
        self.a = torch.nn.Linear(base.in_features, rank, bias=False)
        self.b = torch.nn.Linear(rank, base.out_features, bias=False)
        torch.nn.init.zeros_(self.b.weight)
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * self.b(self.a(x))


def build(folder, method):
    torch.manual_seed(1)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)
    if method == "lora":
        model.requires_grad_(False)
        for layer in model.encoder.layer:
            attention = layer.attention.self
            attention.query, attention.value = Lora(attention.query), Lora(attention.value)
    elif method == "full":
        model.embeddings.word_embeddings.weight.requires_grad_(False)
    else:
        assert method == "all", method
    head = torch.nn.Linear(model.config.hidden_size, 8)
    return model, head


def main():
    folder, method = sys.argv[1:3]
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    transformers.logging.set_verbosity_error()
    model, head = build(folder, method)
    trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.01, fused=True)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        ids, labels = torch.tensor(job["ids"]), torch.tensor(job["labels"])
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = job["dropout"]
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = job["dropout"]
        model.train()
        times, losses = [], []
        for _ in range(job["steps"]):
            start = time.perf_counter()
            states = model(input_ids=ids).last_hidden_state
            loss = torch.nn.functional.cross_entropy(head(states.mean(1)), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            losses.append(loss.item())
            times.append((time.perf_counter() - start) * 1e3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"ms": times, "losses": losses, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()

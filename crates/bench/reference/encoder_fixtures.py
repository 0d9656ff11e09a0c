"""Writes the encoder's parity fixtures: tiny random BERT, MPNet and DistilBERT models with what PyTorch makes of a few
texts, and PyTorch's embeddings of a few texts by MiniLM.

    python encoder_fixtures.py OUT_DIR [MINILM_DIR]

Needs torch, transformers, tokenizers and safetensors. Fixed seeds: the same versions write the same files.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
)

WORDS = "the red blue fish bird swims flies high deep un ##seen ##word ##s in sea sky , . a of over and it is".split()
WIDTH, HEADS, INNER, LAYERS, POSITIONS = 24, 3, 32, 2, 36

TINY_TEXTS = [
    "",
    "fish",
    "The red fish swims in the deep blue sea.",
    "unseenwords, birds and fishs: it is a sky of the sea",
    "a bird flies high over the sea and " * 8,
]

MINILM_TEXTS = [
    "",
    "My card was declined at the petrol station.",
    "Größe, naïve façade, 東京 2026 – emoji 🙂 and cash-back of £3.50?!",
    "The transfer I made on Monday still shows as pending, and the shop says that it never arrived. " * 20,
]


def tokenizer(special, opening, closing, pad):
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    unknown = special[3]
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(special)
    made.post_processor = processors.TemplateProcessing(
        single=f"{opening} $A {closing}",
        special_tokens=[(opening, vocabulary[opening]), (closing, vocabulary[closing])],
    )
    # Both must be ignored by the encoder.
    made.enable_padding(length=16, pad_id=vocabulary[pad], pad_token=pad)
    made.enable_truncation(8)
    return made


def embed(model, ids, pooling):
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
    states = hidden.last_hidden_state[0]
    vector = states.mean(0) if pooling == "mean" else states[0]
    return torch.nn.functional.normalize(vector, dim=0)


def cut(ids, limit):
    return ids if len(ids) <= limit else ids[: limit - 1] + ids[-1:]


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def expected(model, encode, texts, limit, pooling):
    cases = []
    for text in texts:
        ids = cut(encode(text), limit)
        vector = [round(x, 6) for x in embed(model, ids, pooling).tolist()]
        cases.append({"text": text, "tokens": len(ids), "embedding": vector})
    return cases


def tiny(out, name, model, made, dtype, prefix, pooling):
    """Saves `model`, its weights rounded to `dtype`, and computes the expected embeddings from the rounded weights."""
    generator = torch.Generator().manual_seed(20)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            centre = 1.0 if "norm" in key.lower() and key.endswith("weight") else 0.0
            parameter.copy_((centre + 0.25 * noise).to(dtype).float())
    model.eval()
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    keep = {k: v for k, v in model.state_dict().items() if not k.startswith("pooler") and "position_ids" not in k}
    save_file({prefix + k: v.to(dtype).contiguous() for k, v in keep.items()}, folder / "model.safetensors")
    config = {k: v for k, v in model.config.to_diff_dict().items() if k not in ("transformers_version", "dtype")}
    write_json(folder / "config.json", {"model_type": model.config.model_type, **config})
    made.save(str(folder / "tokenizer.json"))
    if pooling is not None:
        modes = {"pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes})
    made.no_padding()
    made.no_truncation()
    limit = POSITIONS
    cases = expected(model, lambda text: made.encode(text).ids, TINY_TEXTS, limit, pooling or "mean")
    write_json(folder / "expected.json", cases)


def main():
    out = Path(sys.argv[1])
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    size = len(special) + len(WORDS)
    shape = dict(
        vocab_size=size,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
    )
    bert = BertModel(BertConfig(**shape, max_position_embeddings=POSITIONS), add_pooling_layer=False)
    tiny(out, "bert", bert, tokenizer(special, "[CLS]", "[SEP]", "[PAD]"), torch.float32, "bert.", None)
    distilbert = DistilBertModel(
        DistilBertConfig(
            vocab_size=size,
            dim=WIDTH,
            n_layers=LAYERS,
            n_heads=HEADS,
            hidden_dim=INNER,
            max_position_embeddings=POSITIONS,
        )
    )
    made = tokenizer(special, "[CLS]", "[SEP]", "[PAD]")
    tiny(out, "distilbert", distilbert, made, torch.bfloat16, "distilbert.", "cls")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    mpnet = MPNetModel(
        MPNetConfig(**shape, max_position_embeddings=POSITIONS + 2, layer_norm_eps=1e-5), add_pooling_layer=False
    )
    tiny(out, "mpnet", mpnet, tokenizer(special, "<s>", "</s>", "<pad>"), torch.float16, "", "mean")

    if len(sys.argv) > 2:
        folder = Path(sys.argv[2])
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        made = Tokenizer.from_file(str(folder / "tokenizer.json"))
        made.no_padding()
        made.no_truncation()
        cases = expected(model, lambda text: made.encode(text).ids, MINILM_TEXTS, 256, "mean")
        write_json(out / "minilm.json", cases)


if __name__ == "__main__":
    main()

"""Fine-tunes {{base}} with TRL on the conversations in data/train.jsonl; the last message of each is what is learned.

Written by `understudy adapt recipe` for trl {{trl}}, peft {{peft}} and transformers {{transformers}}.
On several GPUs: accelerate launch train.py
"""

import hashlib
import json
import pathlib

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

HERE = pathlib.Path(__file__).resolve().parent
RECIPE = json.loads((HERE / "recipe.json").read_text())
LORA = {{lora}}

for name, expected in RECIPE["files"].items():
    found = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    if found != expected:
        raise SystemExit(f"{name} is not the file that the recipe was written with; write the recipe again")


def parted(row):
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}


data = load_dataset("json", data_files={"train": str(HERE / "data" / "train.jsonl")})["train"]
data = data.map(parted, remove_columns=data.column_names)
config = SFTConfig(
    output_dir=str(HERE / "out"),
    num_train_epochs={{epochs}},
    per_device_train_batch_size={{per_device}},
    gradient_accumulation_steps={{accumulation}},
    learning_rate={{rate}},
    lr_scheduler_type="cosine",
    warmup_steps={{warmup}},
    max_grad_norm=1.0,
    max_length={{max_tokens}},
    completion_only_loss=True,
    packing=False,
    bf16=True,
    seed={{seed}},
    data_seed={{seed}},
    save_strategy="epoch",
    logging_steps=10,
    report_to="none",
)
adapter = LoraConfig(
    r={{rank}},
    lora_alpha={{alpha}},
    lora_dropout=0.0,
    bias="none",
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
)
trainer = SFTTrainer(model={{hub}}, args=config, train_dataset=data, peft_config=adapter if LORA else None)
trainer.train(resume_from_checkpoint=any((HERE / "out").glob("checkpoint-*")))
trainer.save_model(str(HERE / "out"))

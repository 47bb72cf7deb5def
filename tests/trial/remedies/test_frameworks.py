"""Remedies under transformers.Trainer and Lightning, whose loaders, optimizers and models go through those of torch."""

from __future__ import annotations

import pytest

from tests.trial.remedies.programs import Try

ALL = ("loader-workers=1", "batch-size=2", "fused-optimizer", "bf16-autocast")

TRAINER = """
warnings.simplefilter("ignore")
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
config._attn_implementation = "eager"
model = LlamaForCausalLM(config)
rows = [{"input_ids": torch.arange(8) % 32, "labels": torch.arange(8) % 32} for _ in range(32)]
arguments = TrainingArguments("out", max_steps=4, per_device_train_batch_size=4, report_to=[], optim="adamw_torch",
                              save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False)
trainer = Trainer(model, arguments, train_dataset=rows)
trainer.train()
loader = trainer.get_train_dataloader()
said["workers"] = loader.num_workers
said["rows"] = len(next(iter(loader))["input_ids"])
said["fused"] = trainer.optimizer.param_groups[0]["fused"]
said["attention"] = model.config._attn_implementation
"""

LIGHTNING = """
warnings.simplefilter("ignore")
import lightning, logging
logging.disable()
class Lit(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.seen = Model(), set()
    def training_step(self, batch, index):
        out = self.model(batch[0])
        said["rows"], said["dtype"] = len(batch[0]), str(out.dtype)
        return F.cross_entropy(out, batch[1])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.model.parameters(), lr=0.01)
lit = Lit()
trainer = lightning.Trainer(max_steps=4, accelerator="cpu", logger=False, enable_checkpointing=False,
                            enable_progress_bar=False, enable_model_summary=False)
trainer.fit(lit, DataLoader(data(), batch_size=4, shuffle=True))
said["workers"] = trainer.train_dataloader.num_workers
said["fused"] = trainer.optimizers[0].param_groups[0]["fused"]
"""


def test_a_trainer_of_transformers_is_reached(tried: Try) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    ran = tried(TRAINER, *ALL, "fused-attention")
    assert ran.said["workers"] == 1
    assert ran.said["rows"] == 8
    assert ran.said["fused"] is True
    assert ran.said["attention"] == "sdpa"
    assert ran.effects == ["batch-size", "bf16-autocast", "fused-attention", "fused-optimizer", "loader-workers"]


def test_lightning_is_reached(tried: Try) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    ran = tried(LIGHTNING, *ALL)
    assert ran.said["workers"] == 1
    assert ran.said["rows"] == 8
    assert ran.said["dtype"] == "torch.float32"
    assert ran.said["fused"] is True
    assert ran.effects == ["batch-size", "bf16-autocast", "fused-optimizer", "loader-workers"]

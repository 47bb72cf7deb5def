"""Edits of the arguments of trainers: who uses one has no line for a DataLoader, an optimizer or autocast."""

from __future__ import annotations

from mfu_doctor.trial.remedies.remedy import Keywords


def training_arguments(*words: tuple[str, str]) -> Keywords:
    """These arguments of Hugging Face's TrainingArguments."""
    names = ("TrainingArguments", "Seq2SeqTrainingArguments")
    return Keywords(names, words, most=1, libraries=("transformers",))


def lightning_trainer(*words: tuple[str, str]) -> Keywords:
    """These arguments of Lightning's Trainer."""
    return Keywords(("Trainer",), words, most=0, libraries=("lightning", "pytorch_lightning"))

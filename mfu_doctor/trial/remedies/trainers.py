"""Edits of the arguments of trainers: who uses one has no line for a DataLoader, an optimizer or autocast."""

from __future__ import annotations

from mfu_doctor.trial.remedies.remedy import Keywords


def training_arguments(*words: tuple[str, str], needs: tuple[str, ...] = ()) -> Keywords:
    """These arguments of Hugging Face's TrainingArguments, where it has those that they need."""
    names = ("TrainingArguments", "Seq2SeqTrainingArguments")
    return Keywords(names, words, most=1, libraries=("transformers",), needs=needs)


def lightning_trainer(*words: tuple[str, str], needs: tuple[str, ...] = ()) -> Keywords:
    """These arguments of Lightning's Trainer, where it has those that they need."""
    return Keywords(("Trainer",), words, most=0, libraries=("lightning", "pytorch_lightning"), needs=needs)

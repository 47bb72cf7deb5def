"""Batches are padded to a length that no sample needs.

What it measures
    The data that a model reads first: the indices of an nn.Embedding, and what an nn.Conv1d to nn.Conv3d gets from the batch, in
    the step that profile() records with shapes. Values at the end of a sample (or at the beginning of tokens) that are all equal
    are its padding. Nothing is looked at where torch.compile is used.

Why it costs
    Each layer computes the padding like data, forward and backward, and the loss or a mask throws it away. With attention, work
    grows with the square of the length.

How the gain is predicted
    The device time of forward and backward is scaled by the length: by its square where a shape has it twice. Work on parameters
    (the optimizer, clipping) stays. If other inputs have no padding, only operators whose shapes have the length count.
    Low: four fifths of the saving of mid: shorter batches are less efficient.
    Mid: batches as long as their longest sample, of the batches that were looked at the one with the least padding.
    High: batches of samples of one length, if samples are sorted by length as well: the padding of the others goes too.

How to fix
    Pad in collate_fn to the longest sample of the batch (pad_sequence; DataCollatorWithPadding; padding="longest"), and not in
    the dataset. Then batches of like length: a sampler that sorts (group_by_length=True of transformers.Trainer).

When it is wrong
    The rule is wrong if the values are data: silence, a black border. Shapes that change from step to step make torch.compile
    compile again: pad to a multiple of 64 then.

References
    https://pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html
    https://huggingface.co/docs/transformers/main_classes/data_collator
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.attribution import lessened
from mfu_doctor.analysis.evidence.padding import padding_of
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import share
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds

_LOW = 0.8  # of the saving: operators on fewer rows are less efficient


@rule(
    "padded-batch",
    "IN009",
    "batches are padded to a length that no sample needs",
    needs=(Need.FACTS,),
    also=("max-length", "fixed-length", "pad-to-max"),
)
def padded_batch(run: Run) -> Outcome:
    """Judge the length that no sample of a batch needs."""
    if run.facts is None or run.facts.padded is None:
        return Skip(
            "padding was not looked for: profile() does so in the step with shapes, unless something is compiled"
        )
    found = padding_of(run)
    if found is None:
        return None
    steady = steady_of(run)
    spent = float(((run.activity.end - run.activity.start) * steady.entry_part(run)) @ found.least)
    if spent < WORTH_SHARE * steady.step_ns:
        return None
    told = found.told
    length = told.dims[told.axis]
    longest = round(length * (1 - told.least))
    return Finding(
        summary=f"Batches are {length} long and their longest sample {longest}: computing padding takes {steady.share(spent)} "
        "of the step",
        fix="pad_sequence(samples, batch_first=True)  # in collate_fn: to the longest of the batch",
        detail=f"{share(told.mean, 1)} of what the model reads is padding, that of shorter samples of a batch included",
        decides=Ends(
            low="shorter batches are less efficient",
            high="samples are also sorted by length, a further change",
        ),
        change=Change(lessened(run, _LOW * found.least), lessened(run, found.least), lessened(run, found.mean)),
        evidence=(
            shown("padding that no sample needs", told.least, "share"),
            shown("padding", told.mean, "share"),
            shown("computed for it", seconds(spent), "s"),
        ),
        place=next((loader.sample_place for loader in run.facts.loaders if loader.sample_place), told.place),
        needless_flops=float((run.flops.per_entry() * steady.entry_part(run)) @ found.least),
    )

"""The training loop begins its DataLoader anew for each batch.

What it measures
    How many iterators of the loader were begun, as the recorder saw it, beside how many batches were fetched; and the time from
    where each of them draws its first seed to the end of its fetch. Only loaders with workers.

Why it costs
    `next(iter(loader))` starts the workers, has each of them load batches ahead, takes one batch, and ends the workers again.

How the gain is predicted
    Low: half of that time goes. Mid: all of it goes, since workers load the next batch while a step runs. High: what follows
    the fetch up to the next operator goes too, in which the workers end.

How to fix
    batches = iter(loader) before the loop, and next(batches) in it; begin anew where it ends.

When it is wrong
    If loading a batch takes longer than a step, the rest is a wait for data (input-bound). The order of the samples is another
    one: each batch was drawn from the whole data set, and is one of an epoch then.

References
    https://pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader
"""

from __future__ import annotations

from mfu_doctor.analysis.evidence.loader_restarts import loader_restarts, unknown_restarts
from mfu_doctor.analysis.evidence.loading import loader_facts
from mfu_doctor.analysis.evidence.steady_steps import steady_of
from mfu_doctor.analysis.replay.edits import Change, PaceWorkers, ScaleHost
from mfu_doctor.analysis.run import Run
from mfu_doctor.quantities import counted
from mfu_doctor.result.findings import Ends
from mfu_doctor.rules.contract import WORTH_SHARE, Finding, Outcome, Skip, rule, shown
from mfu_doctor.rules.needs import Need
from mfu_doctor.units import seconds


@rule(
    "restarted-loader",
    "IN010",
    "the DataLoader begins anew for each batch",
    needs=(Need.FACTS,),
    also=("next-iter-loader", "loader-restart"),
)
def restarted_loader(run: Run) -> Outcome:
    """Judge how often the loader begins."""
    loader, restarts = loader_facts(run), loader_restarts(run)
    if loader is None:
        return Skip("no DataLoader was used during the recording")
    if restarts is None:
        unknown = unknown_restarts(loader)
        return Skip(unknown) if unknown is not None else None
    steady = steady_of(run)
    takes_ns = steady.per_step(restarts.begins.total_ns)
    if takes_ns < WORTH_SHARE * steady.step_ns:
        return None
    half, begun, all_of_it = (
        (ScaleHost(where, left), PaceWorkers(left))
        for where, left in ((restarts.begins, 0.5), (restarts.begins, 0.0), (restarts.begins | restarts.ends, 0.0))
    )
    return Finding(
        summary=f"Each batch comes from a new iterator of the DataLoader, which starts {counted(loader.num_workers, 'worker')}: "
        f"that takes {steady.share(takes_ns)} of the step",
        fix="batches = iter(loader) # before the loop; then next(batches), and iter(loader) again where it ends",
        detail="what was loaded ahead is thrown away with each iterator",
        decides=Ends(low="half of it is loading the batch", high="what follows the fetch is the end of the workers"),
        change=Change(half, begun, all_of_it),
        evidence=(
            shown("iterators begun", loader.begun or 0, "count"),
            shown("from the first seed to the batch", seconds(takes_ns), "s"),
        ),
        place=run.places(steady.issued(run, run.host.fetch_rows)[:1])[0],
        effort="line",
    )

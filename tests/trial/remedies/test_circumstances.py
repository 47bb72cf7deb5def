"""When a remedy does not apply, which setting suits a program, and that every rule has a remedy or a reason for none."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mfu_doctor.facts import (
    CompileFacts,
    Facts,
    HostFacts,
    LoaderFacts,
    OptimizerFacts,
    PrecisionFacts,
)
from mfu_doctor.facts.wasted_work import UnusedGradients
from mfu_doctor.result.run import DeviceInfo
from mfu_doctor.rules.catalogue import EVERY_RULE
from mfu_doctor.trial.remedies.beyond import BEYOND
from mfu_doctor.trial.remedies.catalogue import REMEDIES, remedy_named, settled_on
from mfu_doctor.trial.remedies.remedy import Circumstances
from tests.runs import finding, report_of, steady

H100 = DeviceInfo(name="NVIDIA H100", kind="gpu", peaks={"fp32": 67e12, "tf32": 494e12, "bf16": 989e12})
V100 = DeviceInfo(name="Tesla V100", kind="gpu", peaks={"fp32": 15.7e12, "fp16": 125e12})
CPU = DeviceInfo(name="a processor", kind="cpu")
LOADER = LoaderFacts(class_name="DataLoader", num_workers=0, pin_memory=False)
ADAM = OptimizerFacts(class_name="Adam", options=("foreach", "fused"), fused=None, foreach=None)
FACTS = Facts(loaders=(LOADER,), optimizers=(ADAM,), world_size=2, precision=PrecisionFacts())


def ran(device: DeviceInfo = H100, facts: Facts | None = FACTS, torch: str = "2.13.0") -> Circumstances:
    report = report_of(steady(0.1), device=device)
    return Circumstances(replace(report, run=replace(report.run, versions={"torch": torch})), facts)


def why_not(name: str, circumstances: Circumstances) -> str | None:
    return remedy_named(name).remedy.why_not(circumstances)


WITHOUT_GPU = (
    "tf32",
    "pin-memory",
    "cudnn-benchmark",
    "kept-cache",
    "expandable-segments",
    "nccl-backend",
)


@pytest.mark.parametrize("name", WITHOUT_GPU)
def test_what_is_about_a_gpu_needs_one(name: str) -> None:
    assert why_not(name, ran(CPU)) == "no GPU was used"
    assert why_not(name, ran(H100)) is None


def unlike(**changes: object) -> Circumstances:
    return ran(facts=replace(FACTS, **changes))


def precise(**settings: object) -> Facts:
    return replace(FACTS, precision=PrecisionFacts(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "circumstances", "reason"),
    [
        ("tf32", ran(V100), "this GPU has no fast tf32"),
        ("bf16-autocast", ran(V100), "this GPU has no fast bf16"),
        ("bf16-autocast", ran(CPU), None),  # the program itself shows whether it pays on this processor
        ("bf16-autocast", ran(facts=precise(autocast_dtype="float16")), "the program uses autocast itself"),
        ("autocast-off", ran(CPU, precise()), "no autocast was used"),
        ("autocast-off", ran(CPU, precise(autocast_dtype="bfloat16")), None),
        ("no-grad-scaler", ran(facts=precise(autocast_dtype="float16")), "gradients in fp16 need the scaler"),
        ("no-grad-scaler", ran(facts=precise(autocast_dtype="bfloat16")), None),
        ("loader-workers", unlike(loaders=()), "no DataLoader was used"),
        ("pin-memory", unlike(loaders=(replace(LOADER, pin_memory=True),)), "batches are pinned already"),
        ("persistent-workers", ran(), "no DataLoader has workers"),
        ("prefetch-factor", unlike(loaders=(replace(LOADER, num_workers=2),)), None),
        ("batch-size", unlike(loaders=()), "no DataLoader was used"),
        ("fused-optimizer", unlike(optimizers=(replace(ADAM, fused=True),)), "it is fused already"),
        ("fused-optimizer", ran(CPU, torch="2.3.1"), "it needs torch 2.4"),
        ("fused-optimizer", ran(H100, torch="2.3.1"), None),
        (
            "fused-optimizer",
            unlike(optimizers=(OptimizerFacts(class_name="RMSprop", options=("foreach",)),)),
            "RMSprop has no fused implementation",
        ),
        ("foreach-optimizer", unlike(optimizers=()), "no optimizer of torch was used"),
        ("compile", unlike(compile=CompileFacts(compiled_modules=1)), "the program compiles its model itself"),
        ("dynamic-shapes", ran(), "nothing was compiled"),
        ("dynamic-shapes", unlike(compile=CompileFacts(unique_graphs=3)), None),
        ("convolution-libraries", ran(CPU, precise(onednn=True)), "they are on"),
        ("convolution-libraries", ran(CPU, precise(onednn=False)), None),
        ("anomaly-off", ran(facts=precise(anomaly_mode=False)), "it is off"),
        ("sparse-embedding", ran(), "Adam takes no sparse gradients: use SparseAdam for the embedding"),
        ("frozen-parameters", unlike(unused_gradients=()), "every gradient belongs to a parameter of an optimizer"),
        ("frozen-parameters", unlike(unused_gradients=(UnusedGradients(fate="frozen"),)), None),
        ("ddp-buckets", unlike(world_size=1), "the program trained on one rank"),
        ("nccl-backend", unlike(world_size=None), "the program trained on one rank"),
    ],
)
def test_a_remedy_says_why_it_does_not_apply(name: str, circumstances: Circumstances, reason: str | None) -> None:
    assert why_not(name, circumstances) == reason


def test_what_is_not_known_speaks_against_nothing() -> None:
    """A saved report has no facts: the trial itself then shows whether a remedy takes effect."""
    assert {r.name: r.why_not(ran(facts=None)) for r in REMEDIES} == {r.name: None for r in REMEDIES}


def test_settings_are_those_that_the_report_advises() -> None:
    advised = {
        "loader-workers": finding(fix="DataLoader(..., num_workers=6, persistent_workers=True)"),
        "threads": finding("few-threads", "HO030", fix="torch.set_num_threads(12)"),
        "prefetch-factor": finding("slow-sample", "IN005", fix="DataLoader(..., prefetch_factor=8)"),
    }
    known = ran()
    known = replace(known, report=replace(known.report, diagnoses=tuple(advised.values())))
    names = [settled_on(remedy_named(name), known).name for name in advised]
    assert names == ["loader-workers=6", "threads=12", "prefetch-factor=8"]


def test_settings_suit_the_machine_where_nothing_is_advised() -> None:
    known = ran(facts=replace(FACTS, host=HostFacts(cores=4)))
    names = ("loader-workers", "threads", "prefetch-factor", "batch-size", "gc-threshold", "ddp-buckets", "compile")
    assert [settled_on(remedy_named(name), known).name for name in names] == [
        "loader-workers=3",
        "threads=4",
        "prefetch-factor=4",
        "batch-size=2",
        "gc-threshold=50000",
        "ddp-buckets=25",
        "compile=default",
    ]


def test_a_setting_has_a_place_in_the_line() -> None:
    settled = {r.name: settled_on(remedy_named(r.name), ran()) for r in REMEDIES}
    unnamed = [name for name, chosen in settled.items() if chosen.setting and chosen.setting not in chosen.line]
    unfilled = [name for name, chosen in settled.items() if "{" in chosen.line + chosen.words]
    assert (unnamed, unfilled) == ([], [])


def test_larger_batches_count_as_more_samples() -> None:
    assert remedy_named("batch-size=4").samples == 4.0
    assert {r.name for r in REMEDIES if r.samples("3") != 1.0} == {"batch-size"}


def test_every_rule_has_a_remedy_or_a_reason_for_none() -> None:
    answered = {rule for remedy in REMEDIES for rule in remedy.answers}
    rules = {rule.name for rule in EVERY_RULE if not rule.caution}
    assert rules - answered - set(BEYOND) == set()
    assert answered & set(BEYOND) == set()
    assert set(BEYOND) - rules == set()

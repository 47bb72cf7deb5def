"""The verdict: one sentence from the split and the first fix together, which cannot contradict itself or the screen."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mfu_doctor.api.report import Report
from mfu_doctor.diagnosis.concluded import concluded
from mfu_doctor.diagnosis.verdict import verdict_of
from mfu_doctor.facts.whole_run import LONG, Elsewhere, WholeRun
from mfu_doctor.render import render
from mfu_doctor.result.bottleneck import BOUND_BY, BUCKET_OF, bound_by, host_parts, owners_of
from mfu_doctor.result.caveats import ADVICE, Caveat
from mfu_doctor.result.findings import NOT_MEASURED, Diagnosis, Ends, Evidence, Plan, Saving
from mfu_doctor.result.run import DeviceInfo, Mfu, ReplayInfo, RunInfo
from mfu_doctor.result.step import BUCKETS, IDLE_CAUSES, OTHER_KERNELS, Bar, Breakdown, StepRow, mean_of, step_time_of
from tests.goldens import GOLDENS, healthy, loader_bound

STEP = 0.1


def split(**shares: float) -> Breakdown:
    """A step divided in these shares of it; causes of idle time by their names, and what is left computes."""
    causes = {name: STEP * part for name, part in shares.items() if name in IDLE_CAUSES}
    buckets = {name: STEP * part for name, part in shares.items() if name in BUCKETS}
    idle = sum(causes.values())
    return Breakdown(step_s=STEP, compute=STEP - idle - sum(buckets.values()), idle=idle, idle_causes=causes, **buckets)


def fix(rule: str = "host-bound", ms: tuple[float, float, float] = (12, 12, 12), **more: Any) -> Diagnosis:
    low, mid, high = (value / 1e3 for value in ms)
    saving = Saving(low=low, mid=mid, high=high)
    return Diagnosis(rule=rule, code="XX001", status="failed", summary=f"{rule} here", saving=saving, **more)


def report(parts: Breakdown, *diagnoses: Diagnosis, **more: Any) -> Report:
    """A whole report of this step."""
    made = Report(
        run=RunInfo(trace="a.json", steps=5),
        step_time_s=step_time_of([STEP] * 5, "trace"),
        breakdown=parts,
        diagnoses=diagnoses,
        replay=ReplayInfo(trusted=True),
        mfu=Mfu(value=0.014),
    )
    return concluded(replace(made, **more))


def sentence(parts: Breakdown, *diagnoses: Diagnosis, **more: Any) -> str:
    verdict = report(parts, *diagnoses, **more).verdict
    assert verdict is not None
    return verdict.sentence


PASSED = Diagnosis(rule="input-bound", code="IN001", status="passed")


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"data_loading": 0.62}, "input-bound"),
        ({"data_loading": 0.32, "launch": 0.1}, "compute-bound"),
        ({"communication": 0.4, "launch": 0.3}, None),
        ({"launch": 0.55}, "host-bound"),
        ({"python": 0.55}, "host-bound"),
        ({"sync": 0.55}, "sync-bound"),
        ({"launch": 0.3, "python": 0.3}, "host-bound"),
        ({"memory_copy": 0.6}, "copy-bound"),
        ({"queue": 0.7, "launch": 0.1}, None),
        ({"other": 0.6}, None),
    ],
)
def test_a_run_is_called_after_what_has_more_than_half_of_its_step(parts: dict[str, float], name: str | None) -> None:
    assert bound_by(split(**parts)) == name


def test_a_report_without_a_split_is_called_nothing() -> None:
    assert bound_by(Breakdown()) is None
    assert "no step" in str(concluded(Report(run=RunInfo(trace="a"))).verdict)


def test_every_name_has_a_bucket() -> None:
    assert set(BUCKET_OF) == set(BOUND_BY.values())
    assert set(BUCKET_OF.values()) <= set(BUCKETS)


def test_no_dominant_loss_names_the_shares_and_the_fix() -> None:
    """It once said "communication-bound ... Fix first: host-bound" above a bar that was 61 % compute."""
    said = sentence(split(communication=0.19, launch=0.15), fix(place="model.py:38", confidence="measured"))
    assert said == (
        "66 % computing, 19 % communication, 15 % waiting for the CPU, MFU 1.4 %. Fix first: "
        "the device waits for the CPU (host-bound, model.py:38); saves 12 of 100 ms (1.1x, measured)."
    )


def test_what_holds_the_step_gives_the_name() -> None:
    said = sentence(split(data_loading=0.62), fix("input-bound", (20, 57, 60)))
    assert (
        said
        == "Input-bound: waiting for data takes 62 % of the step. About 57 of 100 ms can be saved (input-bound; guessed)."
    )


def test_what_holds_the_step_is_not_said_twice_on_a_cpu_either() -> None:
    """ "Communication takes 85 % of the step. First to change: Training waits for communication 85 % of the step" """
    waits = replace(
        fix("exposed-communication"), saving=None, summary="Training waits for communication 85 % of the step"
    )
    said = sentence(split(communication=0.85), waits, device=DeviceInfo(kind="cpu"))
    assert said.count("85 %") == 1
    assert said.endswith("How much of it can be saved could not be predicted (exposed-communication).")
    other = fix("host-bound", (12, 12, 12), place="train.py:38")
    assert "Fix first: Python between operators (host-bound, train.py:38); saves 12 of 100 ms" in sentence(
        split(communication=0.3), other, device=DeviceInfo(kind="cpu")
    )


def test_the_first_fix_on_a_cpu_is_said_in_words_too() -> None:
    """ "Fix first: host-bound" told a newcomer nothing, and no CPU waits for itself."""
    for rule in ("input-bound", "host-bound", "exposed-communication"):
        told = sentence(split(gc=0.2), fix(rule), device=DeviceInfo(kind="cpu")).partition("Fix first: ")[2]
        assert f" ({rule})" in told
        assert "device" not in told
    assert "Fix first: waiting for data (input-bound)" in sentence(
        split(gc=0.2), fix("input-bound"), device=DeviceInfo(kind="cpu")
    )


def test_a_choice_is_not_called_a_fault() -> None:
    """A healthy program that computes in fp32 on a CPU was told to fix that first."""
    choice = replace(fix("fp32-matmul", (4, 12, 20), confidence="hint"), trades=True)
    said = sentence(split(), choice, device=DeviceInfo(kind="cpu"))
    assert (
        "No fault was found. A choice that trades exactness: matmuls run in fp32 or TF32 (fp32-matmul); saves about 12"
        in said
    )
    assert "Fix first" not in said
    other = replace(choice, risk="convergence")
    assert "No fault was found. A choice that changes what is learned: " in sentence(split(), other)


def test_a_choice_that_changes_training_says_what_is_chosen() -> None:
    """ "Fix first: attention is computed with separate matmuls and softmax" stood before `attention_dropout = 0.0`."""
    dropout = replace(
        fix("unfused-attention", (12, 12, 12)),
        summary="Dropout of the scores keeps attention from its fused kernel: unfused attention takes 30 % of the step",
        risk="convergence",
        trades=True,
    )
    alone = sentence(split(), dropout, device=DeviceInfo(kind="cpu"))
    told = "dropout of the scores keeps attention from its fused kernel (unfused-attention);"
    assert f"No fault was found. A choice that changes what is learned: {told} saves 12 of 100 ms" in alone
    fault = fix("gc-pause", (5, 5, 5))
    said = sentence(split(), dropout, fault)
    assert "Most is saved by a choice that changes what is learned: dropout of the scores" in said
    assert "No fault" not in said


def test_where_nothing_helps_the_sentence_says_how_far_the_kernels_are_from_their_least_time() -> None:
    """ "Healthy" once stood there or not, by a bound that no reader could see."""
    near = {"plan": Plan(roofline_s=0.05)}
    good = split(launch=0.06)
    assert sentence(good, PASSED, **near) == (
        "94 % computing, MFU 1.4 %; no known fix saves 1 % of the step. At full rates its kernels would take 50 of 100 ms."
    )
    assert sentence(good, PASSED).endswith("no known fix saves 1 % of the step.")  # no bound is known
    assert "no rule could be checked" in sentence(good, **near)
    off = ReplayInfo(error=0.3, trusted=False, reason="no savings are predicted: the replay is off by 30 %")
    assert "off by 30 %" in sentence(good, PASSED, replay=off, **near)


def test_the_least_time_is_of_the_step_that_is_stated() -> None:
    """A profiled step of 112 ms stood there under a step of 90 ms: "83 of 112 ms"."""
    quick = step_time_of([0.09] * 5, "timed")
    said = sentence(split(launch=0.06), PASSED, plan=Plan(roofline_s=0.05), step_time_s=quick)
    assert said.endswith("At full rates its kernels would take 50.0 of 90.0 ms.")


@pytest.mark.parametrize(("unknown_s", "is_told"), [(0.02, True), (0.03, False)])
def test_a_least_time_that_is_mostly_what_kernels_take_now_is_not_told(unknown_s: float, is_told: bool) -> None:
    """256 forward passes of one row: "at full rates its kernels would take 70 of 116 ms" was 67 ms of unknown rates."""
    bars = (
        Bar(name="other kernels", group=OTHER_KERNELS, seconds=unknown_s, basis="measured"),
        Bar(name="memory-bound: minimum time", group=OTHER_KERNELS, seconds=STEP - unknown_s, basis="modelled"),
    )
    said = sentence(split(launch=0.06), PASSED, plan=Plan(roofline_s=0.05), waterfall=bars)
    assert ("At full rates" in said) == is_told


def test_where_most_of_the_run_is_no_step_that_comes_before_what_limits_a_step() -> None:
    """ "Host-bound: Python takes 65 % of the step" stood before checkpoints that took 65 % of the run."""
    rest = Diagnosis(
        rule="outside-steps",
        code="HO034",
        status="failed",
        summary="65 % of the run after its start is not training steps: 18.1 s beside 9.64 s in steps",
        throughput_gain=1.7,
        place="train.py:90",
        confidence="modelled",
    )
    assert sentence(split(python=0.65), rest) == (
        "65 % of the run after its start is not training steps: 18.1 s beside 9.64 s in steps. Fix first: this "
        "(outside-steps, train.py:90); 170 % more samples a second (modelled). In the steps: host-bound: waiting for the CPU "
        "takes 65 % of the step (Python)."
    )


def test_other_work_in_long_steps_is_not_what_limits_the_others() -> None:
    """Checkpoints of a callback lie in steps: they had 65 % of the run, and "the step" was host-bound by the same 65 %."""
    rest = Diagnosis(rule="outside-steps", code="HO034", status="failed", summary="65 % of the run is checkpoints")
    saves = Elsewhere(part=LONG, seconds=18.0, place="train.py:90", function="save", kind="checkpoint")
    usual, long = split(python=0.08), replace(split(), step_s=5 * STEP, idle=4 * STEP, idle_causes={"python": 4 * STEP})
    rows = [StepRow(number=n, start_s=n, split=one) for n, one in enumerate((usual, long, usual, usual, long))]
    shown = report(
        mean_of([row.split for row in rows]),
        rest,
        steps=tuple(rows),
        whole_run=WholeRun(wall_s=30.0, ended=True, steps=100, steps_s=10.0, long_s=18.0, elsewhere=(saves,)),
    )
    assert shown.verdict is not None
    assert shown.verdict.sentence == "65 % of the run is checkpoints. In usual steps: 92 % computing."
    assert shown.bound is None
    without = report(long, rest, steps=(rows[1],), whole_run=shown.whole_run)
    assert str(without.verdict) == "65 % of the run is checkpoints. No usual step was recorded."


def test_a_run_whose_steps_grow_is_never_told_that_no_fix_is_known() -> None:
    grows = Diagnosis(
        rule="growing-step",
        code="HO036",
        status=NOT_MEASURED,
        reason="steps grow from 30.0 ms to 129 ms, but the run was too short to see where",
    )
    said = sentence(split(launch=0.06), PASSED, grows)
    assert said.endswith("steps grow from 30.0 ms to 129 ms, but the run was too short to see where.")
    unknown = replace(grows, reason="how steps change is only known of runs that mfu-doctor run recorded")
    assert "no known fix" in sentence(split(launch=0.06), PASSED, unknown)


def test_only_what_shows_that_it_is_inference_is_called_so() -> None:
    def caution(text: str) -> Diagnosis:
        return Diagnosis(rule="forward-only", code="TR011", status="failed", summary=text, caution=True)

    said = sentence(split(launch=0.3), PASSED, caution("No backward pass: nothing runs backward in this trace"))
    assert said.startswith("No backward pass, 70 % computing")
    said = sentence(split(launch=0.3), PASSED, caution("Inference: nothing runs backward in this trace"))
    assert said.startswith("Inference, 70 % computing")
    said = sentence(split(host_compute=0.7), PASSED, caution("No backward pass: nothing runs backward in this trace"))
    assert said.startswith("No backward pass. Waiting for operators on the CPU takes 70 % of the step")


def test_a_part_of_the_wait_for_the_cpu_is_not_called_all_of_it() -> None:
    """ "13 % of the step (launching)" was said of 9.2 % launching and 3.5 % Python."""
    assert host_parts(9.2, 3.5, 100.0) == " (mostly launching)"
    assert host_parts(9.3, 0.0, 100.0) == " (launching)"
    assert host_parts(66.0, 11.0, 100.0) == " (66 % launching, 11 % Python)"


def test_a_lost_step_is_never_called_fine() -> None:
    """99.5 % idle and nothing found: it once said "No problem found"."""
    skipped = Diagnosis(
        rule="host-bound", code="HO001", status=NOT_MEASURED, reason="the trace has no step events: call prof.step()"
    )
    said = sentence(split(launch=0.995), skipped)
    assert said == (
        "Host-bound: waiting for the CPU takes 100 % of the step (launching). How much of it could be saved is not known: "
        "the trace has no step events: call prof.step()."
    )
    unknown = sentence(split(other=0.8), PASSED)
    assert unknown.startswith("Idle for 80 % of the step, for a reason that is not known.")
    assert "no known fix" not in unknown


def test_where_advice_would_be_wrong_the_sentence_gives_none() -> None:
    start = Diagnosis(
        rule="start-up",
        code="TR099",
        status="failed",
        summary="This recording is start-up",
        fix="record later",
        caution=True,
        spoils=ADVICE,
    )
    said = sentence(split(allocator=0.7), start)
    assert said.endswith("No saving can be predicted: This recording is start-up.")
    assert render(report(split(allocator=0.7), start), "terminal").splitlines()[1].startswith("  ! This recording is")


@given(
    st.dictionaries(st.sampled_from([*BUCKETS[1:-1], *IDLE_CAUSES]), st.floats(0.0, 1.0), max_size=6),
    st.floats(0.0, 0.1),
)
def test_no_name_of_less_than_half_is_ever_said(shares: dict[str, float], saved: float) -> None:
    whole = max(sum(shares.values()), 1.0)
    parts = split(**{name: part / whole for name, part in shares.items()})
    made = report(parts, fix("zeroed-gradients", (saved, saved, saved)))
    assert made.verdict is not None
    named = {name for name in BOUND_BY.values() if re.search(rf"\b{name}\b", made.verdict.sentence, re.IGNORECASE)}
    owners = {BOUND_BY.get(own.owner): own.seconds for own in owners_of(parts)}
    assert all(owners[name] > 0.5 * STEP for name in named)
    assert "No problem" not in made.verdict.sentence


@pytest.mark.parametrize("name", sorted(set(GOLDENS) - {"worst"}))
def test_every_output_says_the_same_sentence(name: str) -> None:
    made = GOLDENS[name]()
    assert made.verdict is not None
    told = made.verdict.sentence
    words = "".join(told.split())
    for form in ("terminal", "markdown", "html", "notebook"):
        text = re.sub(r"<[^>]*>|&#\d+;", "", render(made, form))
        assert re.sub(r"[^\w%]", "", words) in re.sub(r"[^\w%]", "", text), form
    assert json.loads(made.to_json())["verdict"]["sentence"] == told == str(made.verdict)
    if name == "cpu_only":
        return  # it cannot be checked: its trace may lack the device
    assert told in str(made.check())
    assert words in "".join(render(made.check(), "terminal").split())


def test_an_estimate_comes_before_its_range_and_with_what_decides() -> None:
    wide = fix("host-bound", (5.7, 67, 67), decides=Ends(low="it only fuses", high="it can be a CUDA graph"))
    screen = " ".join(render(report(split(launch=0.7), wide), "terminal").split())
    assert "up to 67 ms (5.7-67)" in screen
    assert "67 ms if it can be a CUDA graph; 5.7 ms if it only fuses" in screen
    narrow = " ".join(render(report(split(launch=0.7), fix(ms=(55, 57, 59), decides=wide.decides)), "terminal").split())
    assert " 57 ms modelled" in narrow
    assert "CUDA graph" not in narrow


@pytest.mark.parametrize(
    ("confidence", "ms", "sure"),
    [
        ("measured", (55, 57, 59), "measured"),
        ("measured", (40, 57, 59), "modelled"),
        ("measured", (6, 57, 59), "guessed"),
        ("modelled", (55, 57, 59), "modelled"),
        ("hint", (55, 57, 59), "guessed"),
    ],
)
def test_how_sure_a_saving_is(confidence: str, ms: tuple[float, float, float], sure: str) -> None:
    assert fix(ms=ms, confidence=confidence).sure == sure


def test_where_profiled_and_timed_steps_are_far_apart_savings_are_shares() -> None:
    made = report(split(launch=0.7), fix(ms=(35, 38, 67)), savings_are_shares=True)
    screen = " ".join(render(made, "terminal").split())
    assert "About 38 % of the step can be saved" in screen
    assert "38 ms" not in screen


def test_the_wait_that_the_rest_of_the_run_does_not_have_limits_nothing() -> None:
    made = report(split(data_loading=0.6), later_wait=0.0)
    assert made.verdict is not None
    assert made.bound == "compute-bound"
    assert made.verdict.sentence.startswith("After the recorded steps: 100 % computing")


def test_values_and_sentence_agree() -> None:
    made = loader_bound()
    assert made.verdict is not None
    assert made.verdict.limit is not None
    assert made.verdict.loss is not None
    first = made.failed[0]
    assert first.saving is not None
    assert (made.verdict.loss.rule, made.verdict.loss.saving_s) == (first.rule, first.saving.mid)
    assert made.verdict.limit.share == pytest.approx(made.breakdown.share("compute"))
    changed = concluded(replace(healthy(), diagnoses=()))
    assert "no rule could be checked" in str(changed.verdict)


def test_waiting_for_the_cpu_has_one_name_and_its_parts_stand_beside_it() -> None:
    """One run was launch-bound in its name, waiting for launches in its share, and host-bound in its fix."""
    said = sentence(split(launch=0.66, python=0.11), fix("host-bound", (30, 33, 36)))
    assert said == (
        "Host-bound: waiting for the CPU takes 77 % of the step (66 % launching, 11 % Python). 33 of 100 ms can be saved "
        "(host-bound; 1.5x, modelled)."
    )
    assert "waiting for the CPU takes 58 % of the step (Python)" in sentence(split(python=0.58), fix())


def test_on_a_cpu_nothing_waits_for_the_cpu() -> None:
    made = report(split(python=0.67), fix("host-bound", (30, 33, 36)))
    cpu = concluded(replace(made, device=replace(made.device, kind="cpu")))
    assert str(cpu.verdict).startswith("Host-bound: Python between operators takes 67 % of the step. 33")


def test_a_guess_is_told_as_a_guess() -> None:
    said = sentence(split(communication=0.3), fix(ms=(3, 12, 13)))
    assert "Try first: the device waits for the CPU (host-bound); saves about 12 of 100 ms (guessed)." in said


def test_an_answer_is_asked_first_where_the_fix_is_another_report() -> None:
    """ "63 % communication. About 6.4 of 19 ms can be saved (slow-link)" had a report of all ranks as its fix."""
    asks = replace(fix("slow-link", (3.1, 6.4, 8)), fix="mfu-doctor report DIR  # the traces of all ranks")
    tells = "are at stake; what gets them back is not known yet"
    assert f"About 6.4 of 100 ms {tells} (slow-link; modelled)." in sentence(split(communication=0.6), asks)
    said = sentence(split(communication=0.3), asks)
    assert said.endswith(f"(slow-link); about 6.4 of 100 ms {tells} (modelled).")
    assert "Look first: " in said
    for form in ("terminal", "markdown"):
        shown = render(report(split(communication=0.3), asks), form)
        assert "at stake: find out first" in shown
        assert "saves about" not in shown


def test_what_a_recording_of_the_start_has_most_of_does_not_limit_the_run() -> None:
    """ "allocator-bound" was the verdict on a program of which only the first allocations were recorded."""
    start = Caveat(kind="startup-recording", text="This recording is start-up", spoils=ADVICE)
    known = verdict_of(replace(report(split(allocator=0.7)), caveats=(start,)))
    assert known.limit is not None
    assert (known.limit.owner, known.limit.bound) == ("allocator", None)
    assert known.sentence.startswith("Waiting for memory to be allocated takes 70 % of the step. No saving")


def test_the_star_of_a_measured_peak_is_explained_beside_it() -> None:
    made = report(split())
    measured = concluded(replace(made, device=replace(made.device, peak_measured=True)))
    assert "MFU* 1.4 % (* of a peak measured here)" in str(measured.verdict)


def test_operators_that_wait_for_a_core_do_not_compute() -> None:
    """ "80 % computing", "compute-bound" stood over "waiting for a core takes 67 % of the step"."""
    longer = Evidence(name="longer step", value=0.067, unit="s")
    crowded = replace(fix("crowded-cores", (40, 50, 60)), evidence=(longer,))
    cpu = DeviceInfo(kind="cpu")
    assert "80 % in operators, most of it waiting for a core" in sentence(split(python=0.2), crowded, device=cpu)
    little = replace(crowded, evidence=(replace(longer, value=0.03),))
    assert "80 % computing" in sentence(split(python=0.2), little, device=cpu)

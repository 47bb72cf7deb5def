"""The result for a job: one `JobReport` for all ranks of a run. Every screen, check and file is a pure function of it (schema 1).

Units and unknown values are those of `report`. Times of a job are per job step, which all ranks take together.
"""

from __future__ import annotations

from msgspec import Struct, field

from mfu_doctor.result.caveats import Caveat
from mfu_doctor.result.findings import Ends, Evidence, Plan, Saving, how_known
from mfu_doctor.result.run import ReplayInfo
from mfu_doctor.result.run_verdict import RunVerdict
from mfu_doctor.result.step import Breakdown, StepTime

JOB_SCHEMA = 1
_ABOUT_RANKS = "RA"  # codes of the rules about who waits for whom

# What makes ranks wait for each other, over the steps of a job.
STRAGGLER, SLOW_NODE, UNEVEN_WORK, PIPELINE = "straggler", "slow node", "uneven work", "pipeline"
JITTER, BEFORE, UNREAD_RANK, NOTHING = "jitter", "before the recording", "a rank without a trace", "nothing"
NO_SKEW = "no skew"  # a question to the replay: no rank is ever late


class RankRow(Struct, frozen=True, kw_only=True):
    """One rank that was read."""

    rank: int
    trace: str
    host: str | None = None
    device: str | None = None
    device_kind: str = "gpu"  # gpu or cpu
    group: dict[str, int] = field(default_factory=dict)  # its place along each dimension: {"dp": 3, "tp": 0}
    step_s: float | None = None
    mfu: float | None = None
    breakdown: Breakdown = field(default_factory=Breakdown)
    wait_s: float | None = None  # per step: waiting inside collectives for ranks that come later; None: not known
    waited_for_s: float = 0.0  # per step: what the other ranks waited for this one, the mean over them
    verdict: str = ""  # the sentence of its own report
    finding: str | None = None  # its own first finding
    steps_s: tuple[float, ...] = ()  # its steps in order


class RankLeftOut(Struct, frozen=True, kw_only=True):
    """A file or a rank that is no part of the diagnosis."""

    reason: str  # one sentence
    rank: int | None = None
    trace: str | None = None


class GroupRow(Struct, frozen=True, kw_only=True):
    """One process group."""

    name: str
    description: str | None = None  # dp, tp, pp, ... as the program says it
    ranks: tuple[int, ...] = ()
    complete: bool = True  # every rank of it was read


class CollectiveRow(Struct, frozen=True, kw_only=True):
    """All collectives of one kind and size in one group, per job step."""

    group: str
    kind: str
    size_bytes: int | None  # what one rank puts in
    count: float  # per step
    duration_s: float  # per step, mean over ranks; the three below are parts of it
    wait_s: float | None = None  # for ranks that come later; None: not matched
    transfer_s: float | None = None
    exposed_s: float = 0.0
    algorithm_bytes_s: float | None = None  # size over transfer of one collective
    bus_bytes_s: float | None = None  # the same as a rate of the link (nccl-tests' busbw)
    link_bytes_s: float | None = None  # what the link of the device table can do; None: not known


class Clock(Struct, frozen=True, kw_only=True):
    """How the clocks of the ranks were brought together."""

    resolution_s: float | None = None  # residual spread of ends of collectives; None: not aligned
    offsets_s: dict[int, float] = field(default_factory=dict)  # rank -> what was added to its times
    method: str = ""  # one clause


class Matching(Struct, frozen=True, kw_only=True):
    """Which collectives of the ranks are the same one."""

    matched: int = 0
    unmatched: int = 0
    method: str = ""  # "group and sequence number", "order in the group", ...
    note: str | None = None


class Arrival(Struct, frozen=True, kw_only=True):
    """One matched collective of the drawn step: when its members came and when it ended, from the begin of that step."""

    group: str
    kind: str
    last_rank: int
    arrive_s: tuple[float, ...]  # in the order of `ranks`
    ranks: tuple[int, ...]
    end_s: float


class RankStrip(Struct, frozen=True, kw_only=True):
    """A rank in the picture: (begin, end, owner) from the begin of the drawn step; owners as in a breakdown, or "wait"."""

    rank: int
    parts: tuple[tuple[float, float, str], ...]


class Blame(Struct, frozen=True, kw_only=True):
    """Why ranks wait: who comes late, how much, and what takes longer there than on the others."""

    kind: str  # STRAGGLER, SLOW_NODE, ...
    ranks: tuple[int, ...]  # who is late
    wait_s: float  # per step: what the others wait for them, the mean over the others
    share: float  # of all waiting between ranks
    causes: dict[str, float] = field(
        default_factory=dict
    )  # seconds per step more than on the others; sums to the lateness
    cause: str | None = None  # the largest of them if it has most, else what several are parts of: "compute"
    steps: int = 0  # recorded steps in which it is so
    place: str | None = None  # the user's file:line on the late rank
    sentence: str = ""


class JobFinding(Struct, frozen=True, kw_only=True):
    """A finding of the job: of a rule about ranks, or a rank's own finding with its price for the job."""

    rule: str
    code: str
    summary: str
    fix: str | None = None
    place: str | None = None
    ranks: tuple[int, ...] = ()  # where it is; () all
    most_on: int | None = None  # of several ranks, the one that the summary is of: there it saves most
    told_of: int | None = None  # of several ranks that save alike, the one that the summary is of
    saving: Saving | None = None  # of the job's step, if mended on `ranks`
    everywhere: Saving | None = None  # if mended on all ranks; None: the same, or not known
    effort: str | None = None  # these four as of a rank's own finding
    risk: str | None = None
    trades: bool = False
    decides: Ends | None = None
    confidence: str = "modelled"
    evidence: tuple[Evidence, ...] = ()
    reason: str | None = None  # why there is no saving

    @property
    def sure(self) -> str:
        """How the amount of the saving is known, one of `SURE`."""
        return how_known(self.confidence, self.saving)

    @property
    def is_about_ranks(self) -> bool:
        """Whether it is about who waits for whom, and not about what a rank does for itself."""
        return self.code.startswith(_ABOUT_RANKS)


class WhatIf(Struct, frozen=True, kw_only=True):
    """An answer of the job's replay that is no fix: "no skew", "collectives at the link's rate"."""

    name: str
    step_s: float
    saving_s: float


class Unjudged(Struct, frozen=True, kw_only=True):
    """A rule that could judge no rank, and why."""

    rule: str
    code: str
    reason: str


class JobReport(Struct, frozen=True, kw_only=True):
    """The diagnosis of all ranks of a run: everything that any screen, gate or file shows."""

    schema: int = JOB_SCHEMA
    tool: str = "mfu-doctor"
    kind: str = "job"
    version: str = ""
    created: str = ""  # ISO 8601, UTC
    source: str = ""
    world_size: int | None = None
    ranks: tuple[RankRow, ...] = ()
    missing: tuple[int, ...] = ()  # ranks of the world without a trace; of very many the first thousand
    left_out: tuple[RankLeftOut, ...] = ()
    step_time_s: StepTime | None = None
    mfu: float | None = None  # mean over ranks
    mfu_low: float | None = None
    mfu_high: float | None = None
    mfu_reason: str | None = None
    peak_measured: bool = False  # of any rank: its MFU is of a peak that was measured there
    typical: int | None = None  # the rank whose split is nearest to the median of all
    breakdown: Breakdown = field(default_factory=Breakdown)  # mean over ranks
    wait_s: float | None = None  # per step, mean over ranks: waiting for other ranks; None: nothing could be matched
    exposed_wait_s: float | None = None  # the part of it in which the device does nothing else
    groups: tuple[GroupRow, ...] = ()
    collectives: tuple[CollectiveRow, ...] = ()
    matching: Matching = field(default_factory=Matching)
    clock: Clock = field(default_factory=Clock)
    blames: tuple[Blame, ...] = ()  # most waiting first
    findings: tuple[JobFinding, ...] = ()  # best first
    passed: dict[str, str] = field(default_factory=dict)  # rule -> code: it looked, and found nothing on any rank
    unjudged: tuple[Unjudged, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()
    plan: Plan = field(default_factory=Plan)
    replay: ReplayInfo = field(default_factory=ReplayInfo)
    verdict: RunVerdict | None = None
    caveats: tuple[Caveat, ...] = ()
    arrivals: tuple[Arrival, ...] = ()  # of the drawn step
    strips: tuple[RankStrip, ...] = ()  # likewise

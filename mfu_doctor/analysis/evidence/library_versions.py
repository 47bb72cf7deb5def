"""What a fix asks for must exist in the versions of the run: an older spelling stands in its place, or what to upgrade first.

Only a run that mfu-doctor recorded names its versions. Where they are not known, nothing is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mfu_doctor.analysis.names.optimizers import Version
from mfu_doctor.analysis.run import Run

_VERSION = re.compile(r"(\d+)\.(\d+)")
_TORCH, _TRANSFORMERS = "torch", "transformers"


@dataclass(frozen=True, slots=True)
class Api:
    """Something that fixes ask for.

    Attributes:
        text: how a fix spells it.
        since: the first version that has it.
        library: of which library.
        before: what older versions have instead; None: nothing as good.
    """

    text: str
    since: Version
    library: str = _TORCH
    before: str | None = None


# From the documentation of each version (docs.pytorch.org/docs/VERSION) and from release notes. Options of optimizers stand in
# their own table, because each class has its own version (`names.optimizers`).
APIS = (
    Api("set_to_none", (1, 7)),
    Api("torch.autocast(", (1, 10)),
    Api("torch.cuda.graph(", (1, 10)),
    Api("torch.cuda.make_graphed_callables", (1, 10)),
    Api('torch.set_float32_matmul_precision("high")', (1, 12), before="torch.backends.cuda.matmul.allow_tf32 = True"),
    Api("torch.compile", (2, 0)),
    Api("scaled_dot_product_attention", (2, 0)),
    Api("clip_grad_norm_(model.parameters(), 1.0, foreach=True)", (2, 0)),
    Api("expandable_segments", (2, 1)),
    Api('attn_implementation="sdpa"', (2, 1)),
    Api('attn_implementation="sdpa"', (4, 36), _TRANSFORMERS),
    Api("cache_implementation", (4, 38), _TRANSFORMERS),
    Api("sdpa_kernel(", (2, 3)),
    Api("torch.amp.GradScaler()", (2, 3), before="torch.cuda.amp.GradScaler()"),
    Api('torch.amp.GradScaler("cpu")', (2, 3)),
)


def version_of(run: Run, library: str = _TORCH) -> Version | None:
    """Major and minor version of a library in this run; None if it is not known."""
    match = _VERSION.match(dict(run.facts.versions).get(library, "")) if run.facts else None
    return (int(match[1]), int(match[2])) if match else None


def needs(since: Version, version: Version | None, library: str = _TORCH) -> str:
    """What to upgrade: "needs torch >= 2.3; this run has 1.13"; of an unknown version only what is needed."""
    text = f"needs {library} >= {since[0]}.{since[1]}"
    return text if version is None else f"{text}; this run has {version[0]}.{version[1]}: upgrade first"


def for_versions(run: Run, fix: str) -> str:
    """A fix as the versions of this run can follow it."""
    missing: dict[str, Version] = {}
    for api in APIS:
        version = version_of(run, api.library) if api.text in fix else None
        if version is None or version >= api.since:
            continue
        if api.before is not None:
            fix = fix.replace(api.text, api.before)
        else:
            missing[api.library] = max(api.since, missing.get(api.library, api.since))
    remarks = [f"# {needs(since, version_of(run, library), library)}" for library, since in missing.items()]
    return "\n".join([fix, *remarks])

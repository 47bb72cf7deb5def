"""What the shell offers when a user presses Tab: rules, formats, budgets and keys. Each list comes from where it is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Offer = list[tuple[str, str]]  # the word and what it means
Complete = Callable[[str], Offer]


def formats_of(takes: str) -> Complete:
    """Names of the formats of one kind of object: "report", "verdict" or "comparison"."""

    def complete(incomplete: str) -> Offer:
        from mfu_doctor.render import names

        return _starting(((name, "") for name in names(takes)), incomplete)

    return complete


def explain_formats(incomplete: str) -> Offer:
    """Formats of `explain`."""
    from mfu_doctor.cli.explain import FORMATS

    return _starting(((name, "") for name in FORMATS), incomplete)


def rules(incomplete: str) -> Offer:
    """Names of rules, and families by their letters."""
    from mfu_doctor.rules.catalogue import EVERY_RULE
    from mfu_doctor.rules.families import Family

    named = [(rule.name, rule.title) for rule in EVERY_RULE]
    return _starting([*named, *((family.letters, family.question) for family in Family)], incomplete)


def remedies(incomplete: str) -> Offer:
    """Names of the fixes that `try` knows."""
    from mfu_doctor.trial.remedies.catalogue import REMEDIES

    return _starting(
        [("all", "every fix that applies"), *((remedy.name, remedy.words) for remedy in REMEDIES)], incomplete
    )


def listed_rules(incomplete: str) -> Offer:
    """As `rules`, for the last of several that are separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{word}", meaning) for word, meaning in rules(last)]


def levels(incomplete: str) -> Offer:
    """A rule, and after "=" a level."""
    from mfu_doctor.gate.levels import LEVELS

    rule, equals, _ = incomplete.partition("=")
    if not equals:
        return [(f"{word}=", meaning) for word, meaning in rules(incomplete)]
    return _starting(((f"{rule}={level}", "") for level in LEVELS), incomplete)


def budgets(incomplete: str) -> Offer:
    """Names of budgets."""
    from mfu_doctor.comparison.measures import MEASURES

    return _starting(((f"{measure.option}=", measure.title) for measure in MEASURES), incomplete)


def keys(incomplete: str) -> Offer:
    """Keys in which the runs of `check` may differ."""
    from mfu_doctor.comparison.samples import KEYS

    return _starting(((key, "") for key in KEYS), incomplete)


def compared_keys(incomplete: str) -> Offer:
    """Keys in which the two runs of `compare` may differ."""
    from mfu_doctor.comparison.compare import COMPARED_KEYS

    return _starting(((key, "") for key in COMPARED_KEYS), incomplete)


def _starting(offers: Iterable[tuple[str, str]], incomplete: str) -> Offer:
    return [(word, meaning) for word, meaning in offers if word.lower().startswith(incomplete.lower())]

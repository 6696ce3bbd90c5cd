"""What a finding is: a code, which says how bad it is and what to do about it, and the file that has it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Finding(NamedTuple):
    """One thing that is wrong, or worth a look, with one file.

    Args:
        code: what kind of fault, a key of `CODES`.
        severity: "error": unusable for training; "warning": probably a fault; "info": good to know.
        path: the file; "" for a finding about the whole set.
        related: another file that belongs to the finding, or None.
        value: the number or word that was found, or None.
        reason: one sentence: what was found and what is usual.
        remedy: one sentence: what to do.

    Example:
        >>> Finding("orphan-image", "error", "images/7.png", None, None, "It has no mask.", "Add it.").code
        'orphan-image'
    """

    code: str
    severity: Severity
    path: str
    related: str | None
    value: float | int | str | None
    reason: str
    remedy: str


class Code(NamedTuple):
    """A kind of fault.

    Args:
        severity: its usual severity; some are milder in sets where they are common.
        title: a few words for a heading.
        remedy: one sentence.

    Example:
        >>> Code("warning", "Hardly any contrast", "Export it again.").severity
        'warning'
    """

    severity: Severity
    title: str
    remedy: str


class Codes(dict[str, Code]):
    """Code -> what it means, from rows of both. Each file of checks has those that it finds; here findings are made."""

    def __init__(self, *rows: tuple[str, Severity, str, str]) -> None:
        super().__init__((code, Code(severity, title, remedy)) for code, severity, title, remedy in rows)

    def finding(
        self,
        code: str,
        path: str | None,
        reason: str,
        *,
        related: str | None = None,
        value: float | int | str | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding of one of these codes, as bad as the code says, or as `severity` says."""
        kind = self[code]
        return Finding(code, severity or kind.severity, path or "", related, value, reason, kind.remedy)

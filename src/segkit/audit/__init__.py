"""What is wrong with a data set: every file is read once, judged against its set, and each fault has a name.

Example:
    >>> import numpy as np
    >>> from segkit import audit, io
    >>> for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)):
    ...     io.write_image(f"{i}.png", image)
    >>> open("3.png", "wb").close()
    >>> report = audit.audit_dataset(["0.png", "1.png", "2.png", "3.png"], progress=False)
    >>> [(finding.code, finding.path) for finding in report.findings]
    [('unreadable', '3.png')]
"""

from segkit.audit._audit import audit_dataset
from segkit.audit._judge.checks import CODES
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._label_quality import ImageQuality, LabelQuality, label_quality
from segkit.audit._measure.finding import Code, Finding
from segkit.audit._report.report import AuditReport

__all__ = [
    "AuditReport",
    "CODES",
    "Code",
    "Finding",
    "ImageQuality",
    "LabelQuality",
    "MeasuredSet",
    "audit_dataset",
    "label_quality",
]

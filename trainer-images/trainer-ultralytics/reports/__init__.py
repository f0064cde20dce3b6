"""What the page of a job shows: samples while it trains, report.json and report.html at its end.

Nothing here fails a training: what cannot be written or stored is a warning.
"""

from reports.content import Content
from reports.samples import SampleImage, Samples
from reports.writing import write

__all__ = ["Content", "SampleImage", "Samples", "write"]

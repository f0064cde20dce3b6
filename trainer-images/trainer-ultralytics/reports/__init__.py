"""The data of a job's page: samples during the training, report.json and report.html at its end.

Nothing here fails a training: failures to write or store are warnings.
"""

from reports.content import Content
from reports.samples import SampleImage, Samples
from reports.writing import write

__all__ = ["Content", "SampleImage", "Samples", "write"]

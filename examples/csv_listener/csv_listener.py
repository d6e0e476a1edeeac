"""A listener in thirty lines: the metrics of a run as metrics.csv, one row a value.

    cd examples/csv_listener
    rlrun algo=q_learning env=cliff_walking listener=csv

An interrupted run that is resumed writes the same rows as one that was not.
"""

import csv
import os
from dataclasses import dataclass

import numpy as np

from rlrun.config import key
from rlrun.registry import register
from rlrun.runs.listener import Listener


@dataclass
class CsvConfig:
    file: str = key("the file's name, in the run folder")


@register("listener", "csv", CsvConfig)
class Csv(Listener):
    def __init__(self, config):
        self.config = config

    def open(self, run):
        self.file = (run.folder.path / self.config.file).open("a", newline="")
        self.labels = [replica.label for replica in run.replicas]

    def rewind(self, step, mark):
        self.file.truncate(mark)  # a resumed run writes the rest again
        if mark == 0:
            csv.writer(self.file).writerow(["step", "replica", "tag", "value"])

    def record(self, step, due, values):
        rows = [
            (step[r], self.labels[r], tag, value[r])
            for r in np.flatnonzero(due)
            for tag, value in values.items()
        ]
        csv.writer(self.file).writerows(row for row in rows if np.isfinite(row[-1]))

    def mark(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self, summary):
        self.file.close()

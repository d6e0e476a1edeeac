"""TensorBoard's files: events, and what goes into them, without torch or TensorFlow.

Each function makes the values of one kind that a dashboard of TensorBoard shows; an
`EventFile` holds them. Nothing here knows what a run is.
"""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.files import create, writing

Value = Any  # a Summary.Value of TensorBoard's
_BINS = 30  # of a histogram, as many as TensorBoard keeps


class EventFile:
    """A new file of TensorBoard's events in a folder; each is in it when `add` returns.

    TensorBoard's own writer has a thread, whose queue is lost when the process must leave at once.
    """

    _number = itertools.count()

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        # TensorBoard reads files in order of their names: the tenth must not come before the ninth.
        number = f"{os.getpid()}.{next(self._number):08}"
        name = f"events.out.tfevents.{int(time.time()):010}.{platform.node()}.{number}"
        self._path = folder / name
        with writing(self._path):
            self._file = create(self._path)
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")

    def add(self, step: int, values: Sequence[Value]) -> None:
        """What is known at a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            self._write(step=step, summary=Summary(value=values))

    def forget(self, step: int) -> None:
        """Let TensorBoard drop what came after `step`, in this file or in an older one."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.SessionStatus.START))

    def close(self) -> None:
        self._file.close()

    def _write(self, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with writing(self._path):
            self._records.write(Event(wall_time=time.time(), **what).SerializeToString())


def scalars(values: Mapping[str, float]) -> list[Value]:
    """Numbers by tag."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [Summary.Value(tag=_encodable(tag), simple_value=value) for tag, value in values.items()]


def text(tag: str, markdown: str) -> Value:
    """A text for the TEXT tab."""
    from tensorboard.plugins.text import metadata

    return _tensor(tag, metadata.create_summary_metadata(tag, ""), _encodable(markdown).encode())


def image(tag: str, data: bytes) -> Value:
    """A picture for the IMAGES tab: the bytes of a PNG or a GIF, moving or not."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    size, order = (data[16:24], "big") if data.startswith(b"\x89PNG") else (data[6:10], "little")
    half = len(size) // 2
    width, height = (int.from_bytes(part, order) for part in (size[:half], size[half:]))  # type: ignore[arg-type]
    return Summary.Value(
        tag=tag, image=Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=data)
    )


def histogram(tag: str, values: np.ndarray) -> Value:
    """How finite numbers are distributed, for the HISTOGRAMS and DISTRIBUTIONS tabs."""
    from tensorboard.plugins.histogram import metadata

    return _tensor(tag, metadata.create_summary_metadata(tag, ""), _buckets(values.astype(np.float64)))


def session_start(group: str, hyperparameters: Mapping[str, bool | float | str]) -> Value:
    """A row of the HPARAMS table; sessions of one group share it, and are averaged."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    start = SessionStartInfo(group_name=group, start_time_secs=time.time())
    for name, value in hyperparameters.items():
        kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
        setattr(start.hparams[_encodable(name)], f"{kind}_value", _encodable(value))
    return _hparams("SESSION_START_INFO_TAG", session_start_info=start)


def session_end(succeeded: bool) -> Value:
    """How a session of the HPARAMS table ended. TensorBoard believes the first that is written."""
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    return _hparams(
        "SESSION_END_INFO_TAG", session_end_info=SessionEndInfo(status=status, end_time_secs=time.time())
    )


def experiment(columns: Mapping[str, tuple[list[Any], bool]], metrics: Iterable[str]) -> Value:
    """The columns of the HPARAMS table: by hyperparameter its values and whether it is one of the first.

    TensorBoard believes the first that it finds in any run; without any it shows all there is.
    """
    from tensorboard.plugins.hparams import api_pb2

    infos = []
    for name, (values, first) in columns.items():
        info = api_pb2.HParamInfo(name=_encodable(name), differs=first)
        if all(isinstance(value, bool) for value in values):
            info.type = api_pb2.DATA_TYPE_BOOL
        elif any(isinstance(value, (str, bool)) for value in values):
            info.type = api_pb2.DATA_TYPE_STRING
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
        if info.type == api_pb2.DATA_TYPE_FLOAT64:
            info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
        else:
            info.domain_discrete.extend(map(_encodable, values))
        infos.append(info)
    shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
    whole = api_pb2.Experiment(hparam_infos=infos, metric_infos=shown, time_created_secs=time.time())
    return _hparams("EXPERIMENT_TAG", experiment=whole)


def layout(categories: Mapping[str, Iterable[Value]]) -> Value:
    """What the CUSTOM SCALARS tab shows: charts by the category that they stand in."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    whole = layout_pb2.Layout(
        category=[layout_pb2.Category(title=title, chart=charts) for title, charts in categories.items()]
    )
    return _tensor(metadata.CONFIG_SUMMARY_TAG, metadata.create_summary_metadata(), whole.SerializeToString())


def lines_chart(title: str, *patterns: str) -> Value:
    """Every tag that begins as a regular expression says, of every run."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MultilineChartContent

    return Chart(title=title, multiline=MultilineChartContent(tag=patterns))


def band_chart(title: str, value: str, lower: str, upper: str) -> Value:
    """A line of one tag with a band between two others of the same run."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, MarginChartContent

    series = MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return Chart(title=title, margin=MarginChartContent(series=[series]))


def _hparams(tag: str, **data: Any) -> Value:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    about = metadata.create_summary_metadata(HParamsPluginData(**data))
    return Summary.Value(tag=getattr(metadata, tag), metadata=about, tensor=metadata.NULL_TENSOR)


def _buckets(values: np.ndarray) -> np.ndarray:
    """From, to and how many, a row each; one row where floats cannot tell so many edges apart."""
    low, high = values.min(), values.max()
    along = np.arange(_BINS + 1) / _BINS
    edges = (1 - along) * low + along * high  # their difference itself may be too large for a float
    if (np.diff(edges) <= 0).any():
        return np.array([[low, high, values.size]])
    counts, _ = np.histogram(values, edges)
    return np.stack([edges[:-1], edges[1:], counts], 1)


def _tensor(tag: str, about: Any, data: bytes | np.ndarray) -> Value:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    return Summary.Value(tag=tag, metadata=about, tensor=make_tensor_proto(data))


def _encodable(value: Any) -> Any:
    """Unicode has halves of characters that no file may hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

"""Networks and their optimiser, for R replicas at once.

Every parameter and buffer has the replica axis first, so that R runs are one program and
any slice of the state is a lone run. The parts need torch, and are imported when they are
first asked for: a file that holds a config may say `from rlrun import nn`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlrun.nn.conv import Conv as Conv
    from rlrun.nn.conv import Kernel as Kernel
    from rlrun.nn.encoding import Encoding as Encoding
    from rlrun.nn.gru import GRU as GRU
    from rlrun.nn.ledger import Ledger as Ledger
    from rlrun.nn.ledger import count as count
    from rlrun.nn.linear import MLP as MLP
    from rlrun.nn.linear import Init as Init
    from rlrun.nn.linear import Linear as Linear
    from rlrun.nn.lstm import LSTM as LSTM
    from rlrun.nn.network import Head as Head
    from rlrun.nn.network import Network as Network
    from rlrun.nn.network import Plan as Plan
    from rlrun.nn.network import build_network as build_network
    from rlrun.nn.norm import ENOUGH as ENOUGH
    from rlrun.nn.norm import RunningNorm as RunningNorm
    from rlrun.nn.norm import arrays as arrays
    from rlrun.nn.optim import Adam as Adam
    from rlrun.nn.optim import flatten as flatten
    from rlrun.nn.record import Recorded as Recorded
    from rlrun.nn.record import recordable as recordable
    from rlrun.nn.reference import NNLSTM as NNLSTM
    from rlrun.nn.reference import Copies as Copies
    from rlrun.nn.tape import RecordError as RecordError

_HOME = {
    "Adam": "optim",
    "Conv": "conv",
    "Copies": "reference",
    "ENOUGH": "norm",
    "Encoding": "encoding",
    "GRU": "gru",
    "Head": "network",
    "Init": "linear",
    "Kernel": "conv",
    "LSTM": "lstm",
    "Ledger": "ledger",
    "Linear": "linear",
    "MLP": "linear",
    "NNLSTM": "reference",
    "Network": "network",
    "Plan": "network",
    "RecordError": "tape",
    "Recorded": "record",
    "RunningNorm": "norm",
    "arrays": "norm",
    "build_network": "network",
    "count": "ledger",
    "flatten": "optim",
    "recordable": "record",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"rlrun.nn.{_HOME[name]}"), name)
    globals()[name] = value  # the next access is an ordinary one
    return value

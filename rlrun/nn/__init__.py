"""Networks and their optimiser, for R replicas at once.

Every parameter and buffer has the replica axis first, so that R runs are one program and
any slice of the state is a lone run. Modules with configs reach this package lazily, by
`from rlrun.lazy import nn`.
"""

from __future__ import annotations

from rlrun.nn.conv import Conv, Kernel
from rlrun.nn.gru import GRU
from rlrun.nn.linear import MLP, Init, Linear
from rlrun.nn.lstm import LSTM
from rlrun.nn.network import Encoding, Head, Network, Plan, build_network
from rlrun.nn.norm import RunningNorm
from rlrun.nn.optim import Adam, flatten
from rlrun.nn.record import Recorded, RecordError
from rlrun.nn.reference import NNLSTM, Copies

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "NNLSTM",
    "Adam",
    "Conv",
    "Copies",
    "Encoding",
    "Head",
    "Init",
    "Kernel",
    "Linear",
    "Network",
    "Plan",
    "RecordError",
    "Recorded",
    "RunningNorm",
    "build_network",
    "flatten",
]

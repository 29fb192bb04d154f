"""The workloads, in the order of the tables. A new one is a file beside these and a line here."""

from tapegrad.bench.workloads.base import Workload
from tapegrad.bench.workloads.chain import CHAIN
from tapegrad.bench.workloads.gpt import GPT
from tapegrad.bench.workloads.greeks import GREEKS
from tapegrad.bench.workloads.lanes import LANES_WORKLOAD
from tapegrad.bench.workloads.layers import LAYERS, LAYERS_LANES, LAYERS_RELU
from tapegrad.bench.workloads.moons import MOONS
from tapegrad.bench.workloads.size import SIZE
from tapegrad.bench.workloads.west import WEST

WORKLOADS: tuple[Workload, ...] = (
    CHAIN,
    MOONS,
    LAYERS,
    LAYERS_RELU,
    LAYERS_LANES,
    LANES_WORKLOAD,
    GPT,
    WEST,
    GREEKS,
    SIZE,
)

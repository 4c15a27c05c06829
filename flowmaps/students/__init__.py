"""Students: a pretrained network of one time, v(x, s), as the start of a flow map of two, V(x, s, t).

`student(teacher)` copies the teacher's network and gives its layers two times, such that V(x, s, s) is the teacher's
velocity before the first training step. Each layer gets its first time through the pretrained embedding E, and the
others through a new embedding G that starts at zero:

    added        every layer sees (s, s - t):       E(s) + G(s - t)
    decoupled    early layers see s, late ones t:   E(s), then E(t)
    source_only  every layer sees s alone:          E(s), a map to the data alone

`TimeLayers` names the time embedding and the layers of your own network.
"""

from ..networks.embeddings import Decoupled, decoupled, source_only
from ..networks.embeddings import gap as added
from .create import student
from .student import Diagonal, Student
from .tame import Tame
from .time_layers import OurTimeLayers, TimeLayers

Places = TimeLayers
"""The former name of `TimeLayers`."""

__all__ = [
    "Decoupled",
    "Diagonal",
    "OurTimeLayers",
    "Places",
    "Student",
    "Tame",
    "TimeLayers",
    "added",
    "decoupled",
    "source_only",
    "student",
]

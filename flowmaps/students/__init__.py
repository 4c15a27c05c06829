"""Students: a pretrained network of one time, v(x, s), as the start of a map of two, V(x, s, t).

`student(teacher)` copies the teacher's network and gives it the times that `times` says, so that V(x, s, s) is the
teacher's velocity before the first step of training. Each layer sees the first of its times through the pretrained
embedding E, and the others through a new one, G, that starts at zero:

    added        every layer sees (s, s - t):       E(s) + G(s - t)
    decoupled    early layers see s, late ones t:   E(s), then E(t)
    source_only  every layer sees s alone:          E(s), a map to the data alone

`Places` says where a network of one's own has its embedding and its layers.
"""

from ..networks.embeddings import Decoupled, decoupled, source_only
from ..networks.embeddings import gap as added
from .create import student
from .places import OurPlaces, Places
from .student import Diagonal, Student
from .tame import Tame

__all__ = [
    "Decoupled", "Diagonal", "OurPlaces", "Places", "Student", "Tame", "added", "decoupled", "source_only", "student",
]  # fmt: skip

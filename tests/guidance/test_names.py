"""Former names of guidance: public ones are aliases, and saved ones are translated."""

import pytest

from flowmaps import guidance
from flowmaps.guidance import conditioning, pairs
from flowmaps.serialise import current, public_name

FORMER = {
    "guidance.told:Told": conditioning.GuidanceConditioning,
    "guidance.told:OverScale": conditioning.InverseScale,
    "guidance.told:at_its_scale": conditioning.own_at_effective_scale,
    "guidance.pairs:AtAllTimes": pairs.ConstantShare,
    "guidance.pairs:WhereItActs": pairs.ActiveShare,
    "guidance.pairs:balanced": pairs.balanced_share,
    "guidance.pairs:none": pairs.zero_share,
}
ALIASES = {
    "FromPairs": guidance.GuidedConditional,
    "Guided": guidance.GuidedVelocity,
    "OfConsistency": guidance.GuidedSelfDistillation,
}


@pytest.mark.parametrize("former", FORMER)
def test_a_saved_name_is_translated(former):
    for name in (f"flowmaps.{former}", former.split(".")[0] + "." + former.split(":")[1]):
        assert current(name) == public_name(FORMER[former])


@pytest.mark.parametrize("alias", ALIASES)
def test_a_former_public_name_is_an_alias(alias):
    assert getattr(guidance, alias) is ALIASES[alias]
    assert current(f"guidance.{alias}") == (public_name(ALIASES[alias]) if alias != "Guided" else "guidance.Guided")

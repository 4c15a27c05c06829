"""A run that was begun before a part of flow maps had an argument."""

from flowmaps.runs.resuming import compare


def flow(**arguments):
    inner = {"type": "networks.MLP", "arguments": {"shape": 2, **arguments}}
    return {"flow": {"network": {"type": "networks.StateInput", "arguments": {"network": inner}}}}


def test_it_goes_on_with_the_default():
    assert compare(flow(), flow(waves=0, frequency=2.0), ["flow"]) == ([], [], [])


def test_it_does_not_go_on_with_another_value():
    refused, _, _ = compare(flow(), flow(waves=5, frequency=2.0), ["flow"])
    assert refused == ["flow.network.arguments.network.arguments.waves was 0 and is 5"]


def test_an_argument_without_a_default_is_a_difference():
    now = flow()
    now["flow"]["network"]["arguments"]["network"]["arguments"]["unknown"] = 1
    assert len(compare(flow(), now, ["flow"])[0]) == 1

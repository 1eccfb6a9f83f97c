"""Which layer of the operator's documents counts."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.documents import LayerName
from agent.rules.layers import LAYERS, Section, audience_of, by_name, effective

_documents = st.dictionaries(
    st.sampled_from(LAYERS),
    st.dictionaries(st.sampled_from(["reporting", "hours", "light"]), st.dictionaries(st.sampled_from("ab"), st.integers(0, 3))),
)


@given(_documents)
def test_the_most_specific_layer_that_names_a_section_has_it_whole(documents: dict[LayerName, Any]) -> None:
    sections = effective(documents)
    assert sections.keys() == {name for document in documents.values() for name in document}
    for name, (layer, value) in sections.items():
        above = LAYERS[LAYERS.index(layer) + 1 :]
        assert value == documents[layer][name], "whole, with nothing of another layer"
        assert not any(name in documents.get(other, {}) for other in above)


@given(_documents)
def test_what_is_in_force_laid_over_nothing_is_in_force_again(documents: dict[LayerName, Any]) -> None:
    once: dict[LayerName, dict[str, Any]] = {}
    for name, (layer, value) in effective(documents).items():
        once.setdefault(layer, {})[name] = value
    assert effective(once) == effective(documents)


@given(_documents)
def test_the_order_in_which_layers_arrived_says_nothing(documents: dict[LayerName, Any]) -> None:
    results = [effective(dict(order)) for order in itertools.permutations(documents.items())]
    assert all(result == results[0] for result in results)


@given(st.permutations([(1, "booth"), (2, "booth"), (3, "booth"), (1, "fleet"), (5, "fleet"), (2, "area")]))
def test_f19_whatever_the_order_of_arrival_the_highest_revision_of_each_layer_stands(order: list[tuple[int, LayerName]]) -> None:
    accepted: dict[LayerName, int] = {}
    for rev, layer in order:
        if rev > accepted.get(layer, -1):
            accepted[layer] = rev
    documents: dict[LayerName, Any] = {layer: {"reporting": rev, layer: rev} for layer, rev in accepted.items()}
    assert effective(documents) == {
        "reporting": Section("booth", 3),
        "fleet": Section("fleet", 5),
        "area": Section("area", 2),
        "booth": Section("booth", 3),
    }


def test_names_inside_a_section_stand_for_themselves() -> None:
    documents: dict[LayerName, Any] = {
        "fleet": {"peripherals": {"board": {"a": 1, "b": 1}, "camera": {"a": 1}}},
        "booth": {"peripherals": {"board": {"a": 2}}},
        "area": {"peripherals": "no table"},
    }
    assert by_name(documents, "peripherals") == {"board": Section("booth", {"a": 2}), "camera": Section("fleet", {"a": 1})}
    assert by_name(documents, "services") == {}


@pytest.mark.parametrize(
    ("layer", "audience"),
    [("fleet", "booth/v1/_all/_all"), ("area", "booth/v1/61/_all"), ("booth", "booth/v1/61/61-0007")],
)
def test_each_layer_has_an_audience(layer: LayerName, audience: str) -> None:
    assert audience_of(layer, "61", "61-0007") == audience

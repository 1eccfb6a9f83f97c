"""What can be said of a document without the booth that it is for."""

from collections.abc import Mapping
from typing import Any

from agent.contract.documents import CONFIG_SECTIONS
from agent.contract.typed import Invalid, Problem, build, plain
from agent.lockdown import rules
from agent.lockdown.rule import Rule
from agent.updates import kinds


def problems_of(kind: str, doc: Mapping[str, Any]) -> list[Problem]:
    """Every problem, with its path inside the statement."""
    match kind:
        case "config":
            return problems_of_config(doc)
        case "policy":
            return problems_of_policy(doc, rules())
        case _:
            return problems_of_sections(doc, {name: one.section for name, one in kinds().items()})


def problems_of_config(doc: Mapping[str, Any]) -> list[Problem]:
    return _unknown(doc, CONFIG_SECTIONS)


def problems_of_policy(doc: Mapping[str, Any], known: Mapping[str, Rule]) -> list[Problem]:
    return problems_of_sections(doc, {name: rule.schema for name, rule in known.items()})


def problems_of_sections(doc: Mapping[str, Any], known: Mapping[str, type[Any]]) -> list[Problem]:
    """`known`: the type of each section."""
    found = _unknown(doc, known)
    for name in doc:
        if name in known:
            try:
                build(known[name], doc[name], f"doc.{name}")
            except Invalid as error:
                found += error.problems
    return found


def complete(kind: str, name: str, value: Any) -> Any:
    """A section as a booth understands it: what a rule's part leaves out has the rule's own value."""
    rule = rules().get(name) if kind == "policy" else None
    return value if rule is None else plain(build(rule.schema, value))


def _unknown(doc: Mapping[str, Any], known: Any) -> list[Problem]:
    names = ", ".join(sorted(known))
    return [Problem(f"doc.{name}", f"unknown section; known here: {names}") for name in doc if name not in known]

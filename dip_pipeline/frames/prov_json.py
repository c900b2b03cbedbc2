"""W3C PROV-JSON: who made what, from what, by what; built, checked and read back.

PROV-JSON (W3C member submission, 24 April 2013) knows entities, activities, agents and relations;
an attribute is a string, a number, a boolean, or {"$": text, "type": name}. What is neither (a list
whose order matters, a table) is kept as JSON text of the type `dip:json`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dip_pipeline.errors import FrameError
from dip_pipeline.frames.provenance import from_json, to_json

PREFIXES = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dip": "urn:dip-pipeline:ns#",
}

_JSON = "dip:json"
_NAME = "prov:QUALIFIED_NAME"
_SHOWN = 40  # characters of a damaged value, for people
_KINDS = ("entity", "activity", "agent")
# Relation, and which kinds of node its two ends are.
_RELATIONS = {
    "used": (("prov:activity", "activity"), ("prov:entity", "entity")),
    "wasGeneratedBy": (("prov:entity", "entity"), ("prov:activity", "activity")),
    "wasDerivedFrom": (("prov:generatedEntity", "entity"), ("prov:usedEntity", "entity")),
    "wasAssociatedWith": (("prov:activity", "activity"), ("prov:agent", "agent")),
    "hadMember": (("prov:collection", "entity"), ("prov:entity", "entity")),
}

_OF_PLANES = {
    "moved_cards": list,
    "left_as_they_are": list,
    "left_out": list,
    "quantisation_step": int | float,
}
# Facts that are worked with, not only told: of which type they are, by the type of their node.
_TYPES: dict[str, dict[str, Any]] = {
    "dip:Restoration": {"key": dict, "command_line": list},
    "dip:RestoredFrame": _OF_PLANES,
    "dip:RestoredPlane": _OF_PLANES,
    "dip:NoiseLaw": {"numbers": dict, "correlation": dict},
    "dip:Optics": {"factor": int},
}

Document = dict[str, Any]


class ProvBuilder:
    """Collects the nodes and relations of one document."""

    def __init__(self) -> None:
        self._document: Document = {"prefix": dict(PREFIXES)}

    def entity(self, name: str, kind: str, facts: Mapping[str, object]) -> None:
        """Add a thing: a file, a plane of it, a configuration. Facts that are None are left out."""
        self._add("entity", name, kind, facts)

    def activity(
        self, name: str, kind: str, times: tuple[str, str], facts: Mapping[str, object]
    ) -> None:
        """Add what was done, with its start and end as ISO 8601."""
        self._add("activity", name, kind, facts)
        node = self._document["activity"][f"dip:{name}"]
        node["prov:startTime"], node["prov:endTime"] = times

    def agent(self, name: str, facts: Mapping[str, object]) -> None:
        """Add the software that did it."""
        self._add("agent", name, "prov:SoftwareAgent", facts)

    def relate(self, relation: str, first: str, second: str, role: str | None = None) -> None:
        """Relate two nodes, in the order in which the standard names them."""
        (first_key, _), (second_key, _) = _RELATIONS[relation]
        found = self._document.setdefault(relation, {})
        ends: dict[str, object] = {first_key: f"dip:{first}", second_key: f"dip:{second}"}
        if role is not None:
            ends["prov:role"] = {"$": f"dip:{role}", "type": _NAME}
        found[f"_:{relation}{len(found) + 1}"] = ends

    def bundle(self, name: str, earlier: Mapping[str, Any]) -> None:
        """Keep the document of an input that was itself made so, and those that it keeps."""
        bundles = self._document.setdefault("bundle", {})
        bundles |= dict(earlier.get("bundle", {}))
        bundles[f"dip:{name}"] = {k: v for k, v in earlier.items() if k != "bundle"}

    def build(self) -> Document:
        """Give the document."""
        return self._document

    def _add(self, kind: str, name: str, type_name: str, facts: Mapping[str, object]) -> None:
        qualified = type_name if ":" in type_name else f"dip:{type_name}"
        node: dict[str, object] = {"prov:type": {"$": qualified, "type": _NAME}}
        for key, value in facts.items():
            if value is not None:
                node[key if key.startswith("prov:") else f"dip:{key}"] = to_literal(value)
        self._document.setdefault(kind, {})[f"dip:{name}"] = node


def facts_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Attributes of one node by their names without `dip:`; empty where it is not there.

    Raises FrameError where one is damaged, or not of the type that dip writes.
    """
    for kind in _KINDS:
        node = _nodes(document, kind).get(f"dip:{name}")
        if isinstance(node, Mapping):
            facts = {
                key.removeprefix("dip:"): from_literal(value)
                for key, value in node.items()
                if key != "prov:type"
            }
            _check_types(name, facts, from_literal(node.get("prov:type")))
            return facts
    return {}


def _nodes(document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    nodes = document.get(kind)
    return nodes if isinstance(nodes, Mapping) else {}


def _check_types(name: str, facts: Mapping[str, Any], type_name: object) -> None:
    for key, needed in _TYPES.get(str(type_name), {}).items():
        if key in facts and not isinstance(facts[key], needed):
            raise FrameError(
                f"the account is damaged: {key} of {name} is {str(facts[key])[:_SHOWN]!r}"
            )


def names_of(document: Mapping[str, Any], type_name: str) -> list[str]:
    """Names, without `dip:`, of the nodes of one type, in their order."""
    return [
        name.removeprefix("dip:")
        for kind in _KINDS
        for name, node in _nodes(document, kind).items()
        if isinstance(node, Mapping) and from_literal(node.get("prov:type")) == f"dip:{type_name}"
    ]


def damage_of(document: Mapping[str, Any]) -> list[str]:
    """Say which nodes cannot be read."""
    problems = []
    for name in (name for kind in _KINDS for name in _nodes(document, kind)):
        try:
            facts_of(document, name.removeprefix("dip:"))
        except FrameError as error:
            problems.append(str(error))
    return problems


def problems_of(document: object) -> list[str]:
    """Say what makes a document no PROV-JSON: unknown relations, ends that name no node."""
    if not isinstance(document, Mapping):
        return ["is no JSON object"]
    problems = [f"has no {kind}" for kind in _KINDS if not isinstance(document.get(kind), Mapping)]
    known = {*_KINDS, *_RELATIONS, "prefix", "bundle"}
    problems += [f"{name} is no term of PROV-JSON that dip writes" for name in {*document} - known]
    for relation, ends in _RELATIONS.items():
        found = document.get(relation, {})
        for name, node in found.items() if isinstance(found, Mapping) else ():
            for key, kind in ends:
                target = node.get(key) if isinstance(node, Mapping) else None
                if not isinstance(target, str) or target not in _nodes(document, kind):
                    problems.append(f"{relation} {name}: {key} names no {kind}: {target}")
    return problems


def to_literal(value: object) -> object:
    """Write a value as PROV-JSON holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        names = {math.inf: "INF", -math.inf: "-INF"}
        return {"$": names.get(value, "NaN"), "type": "xsd:double"}
    if isinstance(value, str | bool | int | float):
        return value
    return {"$": json.dumps(to_json(value), allow_nan=False), "type": _JSON}


def from_literal(value: object) -> Any:  # noqa: ANN401  (whatever JSON holds)
    """Read a value back; raises FrameError where it is not of the type that it names."""
    if not isinstance(value, Mapping) or "$" not in value:
        return value
    text, kind = str(value["$"]), value.get("type")
    try:
        if kind == _JSON:
            return from_json(json.loads(text))
        return float(text) if kind == "xsd:double" else text
    except ValueError as error:
        raise FrameError(f"the account is damaged: {text[:_SHOWN]!r} is no {kind}") from error


def flatten(tables: Mapping[str, Any]) -> dict[str, object]:
    """Name the values of tables by table and key: {"fit": {"steps": 3}} is {"fit.steps": 3}."""
    return {
        f"{table}.{key}": value
        for table, values in tables.items()
        for key, value in values.items()
        if value is not None
    }


def unflatten(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Undo `flatten`; names without a dot are left out."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in facts.items():
        table, dot, key = name.partition(".")
        if dot:
            tables.setdefault(table, {})[key] = value
    return tables

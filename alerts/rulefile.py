"""Prometheus rule files: strict reading with the line of each defect.

Taken: groups with name, interval and rules; rules with alert, expr, for, keep_firing_for, labels, annotations.
Everything else is refused by name, so that a file never means less than its author thinks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alerts.durations import DURATION_RULE, parse_duration
from alerts.rule import AlertRule, RuleGroup
from alerts.template import TEMPLATE_RULE, Template, parse_template
from kernel.errors import Finding, InvalidInput, raise_findings
from kernel.settings import read_text
from metering.promql.api import Expression, parse_expression, selectors_of

DEFAULT_INTERVAL_MS = 15_000
SHORTEST_INTERVAL_MS = 1000
MAX_RULES = 1000
MAX_NODE_DEPTH = 20
_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_GROUP_FIELDS = ("name", "interval", "rules")
_RULE_FIELDS = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")


def load_rule_files(paths: Sequence[Path], retention_ms: int) -> tuple[RuleGroup, ...]:
    """The groups of all files. Raises InvalidInput with every finding of every file; then none is loaded."""
    findings: list[Finding] = []
    groups: list[RuleGroup] = []
    for path in paths:
        try:
            groups += parse_rule_file(read_text(path), str(path), retention_ms)
        except InvalidInput as error:
            findings += error.findings
    names: set[str] = set()
    for group in groups:
        if group.name in names:
            findings.append(Finding("rule files", "groups", f"two groups named {group.name!r}", "distinct names"))
        names.add(group.name)
    raise_findings(findings)
    return tuple(groups)


def parse_rule_file(text: str, source: str, retention_ms: int) -> list[RuleGroup]:
    """The groups of one file. Raises InvalidInput with all its findings, each with line and field."""
    root = _compose(text, source)
    reader = _Reader(source, retention_ms)
    groups = list(reader.groups(root))
    raise_findings(reader.findings)
    return groups


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise InvalidInput.single(
                    source, _line(event.start_mark), "an alias (*name)", "the value written out"
                )
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_NODE_DEPTH:
                raise InvalidInput.single(source, _line(event.start_mark), "nesting too deep", "a rule file")
        node: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidInput.single(
            source, _line(mark), getattr(error, "problem", None) or str(error), "YAML"
        ) from error
    return node


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}" if mark else "document"


@dataclass
class _Reader:
    """Reads nodes and gathers findings; what is defective yields nothing."""

    source: str
    retention_ms: int
    findings: list[Finding] = field(default_factory=list)

    def refuse(self, node: yaml.Node, where: str, found: object, allowed: str) -> None:
        line = _line(node.start_mark)
        self.findings.append(Finding(self.source, f"{line}, {where}", str(found), allowed))

    def groups(self, root: yaml.Node | None) -> Iterator[RuleGroup]:
        if root is None:
            return
        fields = self.mapping(root, "document", ("groups",))
        names: set[str] = set()
        for index, node in enumerate(self.sequence(fields.get("groups"), "groups")):
            group = self.group(node, f"groups[{index}]")
            if group and group.name in names:
                self.refuse(node, f"groups[{index}].name", repr(group.name), "a name of its own in the file")
            elif group:
                names.add(group.name)
                yield group

    def group(self, node: yaml.Node, where: str) -> RuleGroup | None:
        fields = self.mapping(node, where, _GROUP_FIELDS)
        name = self.text(fields.get("name"), node, f"{where}.name")
        interval = self.duration(fields.get("interval"), f"{where}.interval", DEFAULT_INTERVAL_MS)
        if interval < SHORTEST_INTERVAL_MS:
            self.refuse(node, f"{where}.interval", f"{interval} ms", "at least 1s")
        nodes = self.sequence(fields.get("rules"), f"{where}.rules")
        if len(nodes) > MAX_RULES:
            self.refuse(node, f"{where}.rules", f"{len(nodes)} rules", f"at most {MAX_RULES}")
        rules: dict[str, AlertRule] = {}
        for index, rule_node in enumerate(nodes[:MAX_RULES]):
            rule = self.rule(rule_node, f"{where}.rules[{index}]")
            if rule and rule.key in rules:
                self.refuse(
                    rule_node,
                    f"{where}.rules[{index}].alert",
                    repr(rule.name),
                    "a name and labels that no other rule of the group has",
                )
            elif rule:
                rules[rule.key] = rule
        return RuleGroup(name, interval, tuple(rules.values())) if name else None

    def rule(self, node: yaml.Node, where: str) -> AlertRule | None:
        fields = self.mapping(node, where, _RULE_FIELDS)
        if "record" in self.keys(node):
            return None  # refused by name already
        name = self.text(fields.get("alert"), node, f"{where}.alert")
        expression = self.expression(fields.get("expr"), node, f"{where}.expr")
        for_ms = self.duration(fields.get("for"), f"{where}.for", 0)
        keep_ms = self.duration(fields.get("keep_firing_for"), f"{where}.keep_firing_for", 0)
        labels = self.templates(fields.get("labels"), f"{where}.labels")
        annotations = self.templates(fields.get("annotations"), f"{where}.annotations")
        for reserved in ("alertname", "organization"):
            if reserved in dict(labels):
                self.refuse(node, f"{where}.labels.{reserved}", "a label", f"no {reserved}: the system sets it")
        if not name or expression is None:
            return None
        text, tree = expression
        return AlertRule(name, text, tree, for_ms, keep_ms, labels, annotations)

    def expression(self, node: yaml.Node | None, parent: yaml.Node, where: str) -> tuple[str, Expression] | None:
        text = self.text(node, parent, where)
        if not text or node is None:
            return None
        try:
            tree = parse_expression(text, self.source, f"{_line(node.start_mark)}, {where}")
        except InvalidInput as error:
            self.findings += error.findings
            return None
        for selector, reach_ms in selectors_of(tree):
            if selector.metric is None:
                self.refuse(node, where, "a selector without a metric name", "a metric name in each selector")
            if selector.offset_ms < 0:
                self.refuse(node, where, "a negative offset", "a look back, not ahead")
            if reach_ms > self.retention_ms:
                self.refuse(
                    node,
                    where,
                    f"a selector that reads {reach_ms // 1000} s back",
                    f"at most alerts.retention_seconds ({self.retention_ms // 1000})",
                )
        return text, tree

    def templates(self, node: yaml.Node | None, where: str) -> tuple[tuple[str, Template], ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, where, _kind(node), "a mapping of names to text")
            return ()
        found: dict[str, Template] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if not _LABEL_NAME.fullmatch(name) or name in found or name.startswith("__"):
                self.refuse(key, where, repr(name or _kind(key)), "label names [a-zA-Z_][a-zA-Z0-9_]*, each once")
                continue
            try:
                found[name] = parse_template(self.text(value, value, f"{where}.{name}", empty=True))
            except ValueError as error:
                self.refuse(value, f"{where}.{name}", error, TEMPLATE_RULE)
        return tuple(sorted(found.items()))

    def mapping(self, node: yaml.Node, where: str, allowed: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, where, _kind(node), f"a mapping with {', '.join(allowed)}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _kind(key)
            if name not in allowed:
                found_text = "a recording rule (record)" if name == "record" else f"field {name!r}"
                self.refuse(key, where, found_text, ", ".join(allowed))
            elif name in found:
                self.refuse(key, where, f"field {name!r} twice", "each field once")
            else:
                found[name] = value
        return found

    @staticmethod
    def keys(node: yaml.Node) -> set[str]:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return {key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode)}

    def sequence(self, node: yaml.Node | None, where: str) -> list[yaml.Node]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node, where, _kind(node), "a list")
            return []
        return list(node.value)

    def text(self, node: yaml.Node | None, parent: yaml.Node, where: str, *, empty: bool = False) -> str:
        if node is None:
            self.refuse(parent, where, "nothing", "text")
            return ""
        if not isinstance(node, yaml.ScalarNode) or (not node.value and not empty):
            self.refuse(node, where, _kind(node) if node.value else "nothing", "text")
            return ""
        return str(node.value)

    def duration(self, node: yaml.Node | None, where: str, default_ms: int) -> int:
        if node is None:
            return default_ms
        try:
            return parse_duration(self.text(node, node, where))
        except ValueError as error:
            self.refuse(node, where, error, DURATION_RULE)
            return default_ms


def _kind(node: yaml.Node) -> str:
    names = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "a value"}
    return names.get(type(node), "something else")

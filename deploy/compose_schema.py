"""Checks compose files against the compose specification's schema: ``compose_schema.py SCHEMA FILE…``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator


class ComposeLoader(yaml.SafeLoader):
    """YAML as compose reads it: its own tags say how files are merged, and mean nothing to the schema."""


def _as_it_is(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


ComposeLoader.add_multi_constructor("!", _as_it_is)


def load_compose(path: Path) -> dict[str, Any]:
    """Read a compose file.

    Args:
        path: The file.
    """
    loader = ComposeLoader(path.read_text())
    try:
        loaded: dict[str, Any] = loader.get_single_data()
        return loaded
    finally:
        loader.dispose()


def problems(schema: dict[str, Any], composed: dict[str, Any]) -> list[str]:
    """What breaks the schema, each with its place.

    Args:
        schema: Of the compose specification.
        composed: A compose file.
    """
    found = Draft7Validator(schema).iter_errors(composed)
    return sorted(
        f"{'.'.join(str(part) for part in error.absolute_path) or 'file'}: {error.message}" for error in found
    )


def main(arguments: list[str]) -> int:
    """Check every file; 1 where one is wrong."""
    schema = json.loads(Path(arguments[0]).read_text())
    wrong = 0
    for name in arguments[1:]:
        for problem in problems(schema, load_compose(Path(name))):
            sys.stderr.write(f"{name}: {problem}\n")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Plain data and parameters as a space.yaml that a person would have written."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from sweep.config.model import Categorical, Constant, Parameter


class _Representer(SafeRepresenter):
    """Within a list, ruamel.yaml writes `:a` and `?a` without the quotes that it needs to read them again."""

    def represent_str(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if data[:1] in (":", "?") else None)


_Representer.add_representer(str, _Representer.represent_str)


def described(parameter: Parameter) -> dict[str, Any]:
    """As a mapping, without what is the default."""
    return {"type": parameter.type, **parameter.model_dump(mode="json", exclude_defaults=True)}


def short(parameter: Parameter) -> Any:
    """As a list or a plain value, where that says it all."""
    if parameter.when is None and isinstance(parameter, Categorical):
        return parameter.choices
    alone = isinstance(parameter, Constant) and not isinstance(parameter.value, (list, dict, type(None)))
    return parameter.value if alone and parameter.when is None else described(parameter)  # type: ignore[union-attr]


def to_yaml(data: Any) -> str:
    """In the order of the data; what holds only plain values is on one line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 100_000
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()

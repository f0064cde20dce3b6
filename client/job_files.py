"""Job files: the fields of a job in YAML, for ``stoker submit -f job.yaml``."""

from pathlib import Path

from client import fields
from client.errors import Json, invalid


def read(path: Path) -> Json:
    """Return the fields of a job file by their names in the API.

    Raises:
        CallError: the file cannot be read, or has an unknown field; the message names the line or the field.
    """
    import yaml  # noqa: PLC0415 -- only job files need it

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise invalid(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise invalid(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise invalid(f"{path}: write the fields of a job, such as `model: yolo11n.pt` and `epochs: 20`, a line each")
    return {_name(path, str(name)): value for name, value in content.items()}


def _name(path: Path, name: str) -> str:
    known = fields.schema()["properties"]
    if name not in known and name not in fields.kinds():
        raise invalid(f"{path}: {fields.unknown(name, known)}")
    return fields.ALIASES.get(name, name)

"""Writes the reference pages from the code; ``--check`` only compares them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

# One width and no colour wherever this runs, or the pages would differ from machine to machine.
os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}

REFERENCE = Path(__file__).parent / "reference"
INTRO = "<!-- Made by docs/generate.py from the code: do not edit. -->\n"


def cli_page() -> str:
    """Every verb's help, as the command prints it."""
    from typer.main import get_command

    from finicky.cli.app import app

    parts = [INTRO, "# The command line\n"]
    parts.append(
        "Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 failed, 2 "
        "misused, 130 interrupted.\n"
    )
    parts.append(_help([]))
    for verb in get_command(app).commands:  # type: ignore[attr-defined]
        parts.append(f"## finicky {verb}\n")
        parts.append(_help([verb]))
    return "\n".join(parts)


def python_page() -> str:
    """Signature and docstring of every public name."""
    import finicky

    parts = [INTRO, "# The Python library\n", "Everything here is importable from `finicky`.\n"]
    for name in finicky.__all__:
        value = getattr(finicky, name)
        if name.startswith("__"):
            continue
        parts.append(f"## {name}\n")
        if inspect.isclass(value) and issubclass(value, Exception):
            parts.append(_doc(value))
        elif inspect.isclass(value):
            parts += [f"```python\nclass {name}{_signature(value)}\n```\n", _doc(value)]
            parts += _methods(value)
        else:
            parts += [f"```python\n{name}{_signature(value)}\n```\n", _doc(value)]
    return "\n".join(parts)


def _methods(kind: type) -> list[str]:
    parts = []
    for name, member in vars(kind).items():
        if isinstance(member, classmethod):
            member = getattr(kind, name)  # without the class that it is given
        a_function = inspect.isfunction(member) or inspect.ismethod(member)
        if name.startswith("_") or not (a_function or hasattr(member, "fget")):
            continue
        target = member.fget if hasattr(member, "fget") else member
        call = "" if hasattr(member, "fget") else _signature(member)
        parts += [f"**`.{name}{call}`**\n", _doc(target)]
    return parts


def _signature(value: object) -> str:
    try:
        text = str(inspect.signature(value))  # type: ignore[arg-type]
        # Defaults without a repr show their address in memory, which differs from run to run.
        return re.sub(r"<(?:function )?([\w.]+)(?: object)? at 0x[0-9a-f]+>", r"\1", text)
    except (TypeError, ValueError):
        return ""


def _doc(value: object) -> str:
    text = inspect.getdoc(value) or ""
    return f"```text\n{text}\n```\n"


def _help(arguments: list[str]) -> str:
    code = "from finicky.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    text = done.stdout.replace("Usage: -c ", "Usage: finicky ").strip("\n")
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"```text\n{lines}\n```\n"


def main() -> None:
    """Write the pages, or compare them and exit 1 where one is stale."""
    stale = []
    for name, text in (("cli.md", cli_page()), ("python.md", python_page())):
        path = REFERENCE / name
        if "--check" in sys.argv:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run python docs/generate.py")


if __name__ == "__main__":
    main()

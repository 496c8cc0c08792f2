"""One file a verb: its function's signature is the flags, its docstring the help.

A verb that Python keeps for itself has an underscore at the end of its file and function (`import_`), not on the command line.

Exit codes: 0 done, 2 usage, 3 bad input, 4 interrupted and saved, 5 disk full, 6 integrity failure.
"""

import ast
import errno
import sys
from collections.abc import Sequence
from importlib.resources import files

from actscope.core.errors import ActscopeError, Interrupted
from actscope.core.methods import names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; errors a user can meet end in one sentence on stderr."""
    import cyclopts

    from actscope.cli._common import Plain
    from actscope.core.progress import graceful

    app = cyclopts.App(name="actscope", help="Know, prove and change what happens inside a neural network.", version=_version)
    verbs = {file.removesuffix("_"): file for file in names("cli")}
    for verb, file in verbs.items():
        app.command(f"actscope.cli.{file}:{file}", name=verb, help=_summary(file))
    given = list(sys.argv[1:] if arguments is None else arguments)
    errors = Plain(stderr=True, soft_wrap=True)
    try:
        with graceful():
            app(given, exit_on_error=False, print_error=False, result_action="return_value")
        return 0
    except cyclopts.CycloptsError as error:
        errors.print(f"actscope: {error}", style="red", markup=False, highlight=False)
        verb = f" {given[0]}" if given and given[0] in verbs else ""
        errors.print(f"Type `actscope{verb} --help` for what it takes.", markup=False)
        return 2
    except ActscopeError as error:
        errors.print(f"actscope: {error}", style="red", markup=False, highlight=False)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("actscope: stopped; what was committed is intact.", markup=False)
        return Interrupted.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        errors.print(f"actscope: no room left on the disk ({error}). What was committed is intact.", markup=False)
        return 5


def _summary(verb: str) -> str:
    """The first line of a verb's docstring, read without importing the verb."""
    for node in ast.parse(files("actscope.cli").joinpath(f"{verb}.py").read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == verb:
            return (ast.get_docstring(node) or "").split("\n")[0]
    return ""


def _version() -> str:
    from importlib.metadata import version

    return version("actscope")


def run() -> None:
    """The console script."""
    sys.exit(main())

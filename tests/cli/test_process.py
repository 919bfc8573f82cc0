"""The process of a command ends at once, after whatever its libraries have to do at the end."""

import subprocess
import sys

import pytest

from meddistill.cli.exit_codes import DONE, USERS
from recipe_data import environment

COMMAND = """
import atexit, sys
import meddistill.cli
from meddistill.__main__ import command

class Kept:
    def __del__(self):
        print("taken apart")

def main():
    atexit.register(print, "the libraries end")
    return run()

run, meddistill.cli.main = meddistill.cli.main, main
kept = Kept()
command()
"""


@pytest.mark.parametrize(("argument", "code"), [("--version", DONE), ("--no-such", USERS)])
def test_a_command_ends_with_its_code_after_its_libraries(argument: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, argument],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "the libraries end"

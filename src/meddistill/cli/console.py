"""Where tables are printed."""

from rich.console import Console

LINE_WIDTH = 160  # of tables in files and pipes, where no terminal tells a width and cells must stay whole


def stdout_console() -> Console:
    """Stdout as wide as the terminal, or wide enough for every table where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = LINE_WIDTH
    return console

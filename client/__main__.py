"""``python -m client``."""

import typer

from . import stream

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.callback()(lambda: None)
stream.register(app)

if __name__ == "__main__":
    app()

"""``python -m deploy start|stop|status|scale|wait|url``: the commands behind the Makefile's targets."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import requests
from rich.console import Console
from rich.markup import escape

from . import canary, choices, front, gateway, logs, server, status, supervisor
from .config import load_config
from .launch import CONFIG_FILE
from .management import get_models
from .preflight import DeployError
from .processes import ServerProcess, adopt_orphans, reap_orphans
from .state import load_supervisor, save_supervisor

_ANSWER_SECONDS = 5.0
_NOT_READY, _NOT_RUNNING = 1, 3  # exit codes of `status`; 3 as the LSB has it for services

_out = Console(highlight=False, soft_wrap=True)
_err = Console(highlight=False, soft_wrap=True, stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    # `kill` must clean up as Ctrl-C does. SIGINT is set too: a script's background command inherits it as
    # ignored.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _interrupt)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except DeployError as error:
        _err.print(f"[red]error:[/red] {escape(str(error))}")
        for line in error.details:
            _err.print(f"    {escape(line)}")
        return 1
    except requests.RequestException as error:
        _err.print(f"[red]error:[/red] the server runs but does not answer: {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130


def _start(options: argparse.Namespace) -> int:
    settings = server.Settings(
        model_store=options.model_store,
        models=tuple(name for name in options.model if name != "all"),
        config=options.config,
        run_dir=options.run_dir,
        log_dir=options.log_dir,
        port=options.port,
        timeout_seconds=options.timeout,
        console=options.foreground,
        **choices.chosen(options),
    )
    began = time.monotonic()
    if options.foreground:
        return _stay(settings, began, options)
    with _out.status("Starting TorchServe ..."):
        state = _started(settings, options)
    if options.supervise:
        supervisor.launch(settings)
    if not options.quiet:
        _announce(state, settings, began)
    return 0


def _started(settings: server.Settings, options: argparse.Namespace) -> server.State:
    """The server, and its gateway where one is wanted."""
    state = server.start(settings)
    if options.gateway:
        try:
            gateway.start(
                load_config(settings.run_dir / CONFIG_FILE),
                settings.run_dir,
                settings.log_dir,
                port=options.gateway_port,
                python=settings.python,
                console=settings.console,
                model_store=settings.model_store,
                supervised=options.supervise,
            )
        except BaseException:  # Ctrl-C too: half of what was asked for is worse than nothing
            server.stop(settings.run_dir, 0.0)
            raise
    return state


def _supervise(options: argparse.Namespace) -> int:
    settings = server.Settings(
        model_store=options.model_store,
        run_dir=options.run_dir,
        log_dir=options.log_dir,
        timeout_seconds=options.timeout,
        **choices.chosen(options),
    )
    supervisor.log_to(options.log_dir, console=False)
    supervisor.Supervisor(settings, identity=ServerProcess.of(os.getpid())).run()
    return 0


def _announce(state: server.State, settings: server.Settings, began: float) -> None:
    if logs.as_json():
        seconds = f"{time.monotonic() - began:.1f}"
        said = {"event": "ready", "level": "info", "seconds": seconds, "models": ", ".join(state.models)}
        sys.stdout.write(logs.line(said) + "\n")
        sys.stdout.flush()
        return
    _out.print(
        f"[green]Ready[/green] after {time.monotonic() - began:.0f} s: {escape(', '.join(state.models))}"
    )
    if beside := gateway.load(settings.run_dir):
        _out.print(f"  gateway     {beside.url}  (a page to try it; its routes: {beside.url}/docs)")
    _out.print(f"  inference   {state.inference_url}")
    _out.print(f"  management  {state.management_url}")
    _out.print(f"  metrics     {state.metrics_url}")
    _out.print(f"  logs        {escape(state.log_dir)}")
    if status.has_gpus(state):
        for line in status.settings(state, get_models(state.management_url, state.models)):
            _out.print(f"  {line}")
    _out.print(f"Try it:  curl -T clip.mp4 {state.predict_url()}")


def _stay(settings: server.Settings, began: float, options: argparse.Namespace) -> int:
    """Stay until a signal stops this process, and so the server, or the server ends by itself.

    Meanwhile the server's own log goes to standard output. A signal before the server is ready ends the start.
    """
    state = None
    adopt_orphans()
    try:
        state = _started(settings, options)
        _announce(state, settings, began)
        if options.supervise:
            identity = ServerProcess.of(os.getpid())
            save_supervisor(settings.run_dir, identity)
            supervisor.log_to(settings.log_dir, console=True)
            supervisor.Supervisor(settings, identity=identity, adopts=True).run()
            return 0  # somebody else stopped the server
        while state.process.alive():
            time.sleep(0.5)
            reap_orphans()
    except KeyboardInterrupt:
        if state is None:
            raise
        _report(server.stop(settings.run_dir, options.drain))
        return 0
    server.stop(settings.run_dir)
    raise DeployError("TorchServe ended by itself", f"see {state.log_dir}")


def _stop(options: argparse.Namespace) -> int:
    _report(server.stop(options.run_dir, options.drain))
    return 0


def _report(stopped: server.Stopped | None) -> None:
    said = "Stopped."
    if stopped is None:
        said = "No server was running."
    elif stopped.unanswered:
        connections = f"{stopped.unanswered} connection{'s' * (stopped.unanswered != 1)}"
        said = f"Stopped; {connections} still waited for an answer."
    if logs.as_json():
        sys.stdout.write(logs.line({"event": said, "level": "info"}) + "\n")
    else:
        _out.print(said)


def _wait(options: argparse.Namespace) -> int:
    server.wait_ready(server.running(options.run_dir), options.timeout)
    return 0


def _url(options: argparse.Namespace) -> int:
    _out.print(server.running(options.run_dir).predict_url(options.model))
    return 0


def _scale(options: argparse.Namespace) -> int:
    state = server.running(options.run_dir)
    server.scale(state, options.workers, options.model, options.timeout)
    for name in [options.model] if options.model else state.models:
        _out.print(f"{escape(name)}: {options.workers} worker{'s' * (options.workers != 1)} READY")
    return 0


def _status(options: argparse.Namespace) -> int:
    state = server.load_state(options.run_dir)
    if state is None or not state.process.alive():
        _out.print("No server is running" + ("." if state is None else ": it ended without being stopped."))
        return _NOT_RUNNING
    models = get_models(state.management_url, state.models)
    _out.print(status.table(state, models))
    for line in status.settings(state, models):
        _out.print(line)
    _out.print(
        f"pid {state.process.pid}, inference {state.inference_url}, management {state.management_url}, "
        f"metrics {state.metrics_url}"
    )
    keeper = load_supervisor(options.run_dir)
    if keeper and keeper.alive():
        _out.print(f"supervisor pid {keeper.pid}, log {escape(state.log_dir)}/{supervisor.LOG_FILE}")
    else:
        _out.print("no supervisor: nothing restarts what dies")
    beside = gateway.load(options.run_dir)
    lives = beside is None or gateway.answers(beside, _ANSWER_SECONDS)
    if beside:
        how = "" if lives else ", [red]does not answer[/red]"
        _out.print(f"gateway {beside.url}, pid {beside.process.pid}{how}")
    ready = lives and len(models) == len(state.models) and all(model.ready() for model in models)
    return 0 if ready else _NOT_READY


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  # a signal handler's signature
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    defaults = server.Settings()
    parser = argparse.ArgumentParser(prog="python -m deploy", description="The life of a TorchServe server.")
    commands = parser.add_subparsers(title="commands", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        command.add_argument(
            "--run-dir", type=Path, default=defaults.run_dir, help="folder of the server's state"
        )
        return command

    def add_timeout(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--timeout", type=float, default=defaults.timeout_seconds, help="seconds until all must be READY"
        )

    def add_drain(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--drain",
            type=float,
            default=server.DRAIN_SECONDS,
            help="seconds that requests in flight have to finish before the stop; 0: none",
        )

    start = add("start", _start, "start a server; returns when it is ready")
    start.add_argument("--model-store", type=Path, default=defaults.model_store, help="directory of archives")
    start.add_argument("--model", action="append", default=[], help="model to serve (repeatable); default: all")
    start.add_argument("--config", type=Path, default=defaults.config)
    start.add_argument("--log-dir", type=Path, default=defaults.log_dir)
    start.add_argument("--port", type=int, help="inference port; the next four follow; 0: free ones")
    choices.add(start)
    start.add_argument("--gateway", action="store_true", help="start the gateway beside the server")
    start.add_argument("--gateway-port", type=int, help="its port; 0: a free one; default: the gateway's own")
    start.add_argument("--quiet", action="store_true", help="print nothing when the server is ready")
    start.add_argument("--foreground", action="store_true", help="stay; SIGTERM or Ctrl-C stops the server")
    start.add_argument(
        "--no-supervisor", dest="supervise", action="store_false", help="restart nothing that dies"
    )
    add_timeout(start)
    add_drain(start)

    supervise = add("supervise", _supervise, "keep a started server up; `start` runs this")
    supervise.add_argument("--model-store", type=Path, default=defaults.model_store)
    supervise.add_argument("--log-dir", type=Path, default=defaults.log_dir)
    choices.add(supervise)
    add_timeout(supervise)

    add_drain(add("stop", _stop, "answer what is in flight, then stop; nothing of the server stays behind"))
    add(
        "status",
        _status,
        f"show models and workers; exit code 0: all READY, {_NOT_READY}: not all, {_NOT_RUNNING}: no server",
    )
    scale = add("scale", _scale, "set the number of workers; returns when they are ready")
    scale.add_argument("--workers", type=int, required=True)
    scale.add_argument("--model", help="default: every model")
    add_timeout(scale)
    add_timeout(add("wait", _wait, "wait until all workers are READY"))
    front.add_commands(add)
    canary.add_commands(add)
    add("url", _url, "print where to send clips").add_argument("--model", help="default: the first")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Runs ``python -m export learn`` as a child: one at a time, told line by line, ended with the gateway."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from actionrec.errors import ClipError

from ...engine import Engine
from ...jobs.files import room_on_disk
from ...settings import Settings
from ..labels import Labels, Span, key_of
from . import program
from .learning import Learning, Method, Trouble
from .serve import serve
from .videos import Video, Videos

logger = logging.getLogger(__name__)

_LINE_BYTES = 1 << 22
_SAVE_SECONDS = 2.0
_LAST_BYTES = 2000
"""Of what a run printed that ended without a word."""
_NAMED = 3
"""Videos that an error names."""


class Learner:
    """The runs of all clients; `close` it.

    Args:
        settings: of the gateway.
        engine: behind it.
        labels: what was marked.
        videos: on which.
    """

    def __init__(self, settings: Settings, engine: Engine, labels: Labels, videos: Videos) -> None:
        self._settings, self._engine = settings, engine
        self._labels, self._videos = labels, videos
        self.project = program.project() if settings.model_store else None
        """The folder that the program runs in; None: nothing can be learned here."""
        self._lock = asyncio.Lock()
        self._run: asyncio.Task[None] | None = None
        self._ending: Literal["cancelled", "stopped"] = "stopped"
        """What a run is that is ended now."""
        self._last: dict[str, Learning] = {}
        """The last run of each client that has asked."""
        self._serving: dict[str, asyncio.Task[None]] = {}
        """Clients who are having an archive served."""

    def busy(self) -> bool:
        """Whether something is being learned."""
        return self._run is not None and not self._run.done()

    def last(self, client: str) -> Learning | None:
        """A client's last run."""
        if client not in self._last:
            found = Learning.load(self._videos.home(client))
            if found is None:
                return None
            if found.state == "running":  # of a gateway that is gone
                found.end("stopped")
            if found.serving.state == "asked":
                found.serving.state = "no"
            self._last[client] = found
        return self._last[client]

    def bases(self) -> list[str]:
        """Names of the archives that can be learned on."""
        store = self._settings.model_store
        return sorted(path.stem for path in store.glob(f"[!.]*{program.ARCHIVE}")) if store else []

    async def begin(self, client: str, name: str, model: str, method: Method) -> Learning:
        """Begin to learn a client's labels.

        Args:
            client: whose.
            name: of the new model.
            model: that it is learned on.
            method: see `make learn`.

        Raises:
            ClipError: 400, 404, 409: it cannot be begun.
        """
        async with self._lock:
            store = self._store()
            if self.busy():
                message = "This server is learning already: one at a time."
                raise ClipError("LEARNING_ALREADY", 409, message, "Wait until it has ended, or cancel it.")
            if name in self.bases() or name in await self._engine.models():
                hint = f"Choose another name, as {name[:120]}-2."
                raise ClipError("NAME_TAKEN", 409, f"There is a model {name} already.", hint)
            if model not in self.bases():
                message = f"The archive of {model} is not in this server's model store."
                raise ClipError("MODEL_NOT_FOUND", 404, message, "Choose one of the models that are offered.")
            spans, videos = await asyncio.to_thread(self._marked, client)
            home = self._videos.home(client)
            with room_on_disk():
                program.write_list(home / "labels.csv", spans, videos)
            command = program.command(
                data=home / "labels.csv",
                videos=self._videos.folder(client),
                name=name,
                model=store / (model + program.ARCHIVE),
                method=method,
                store=store,
            )
            self._last[client] = learning = Learning(name=name, model=model, method=method)
            names = {str(self._videos.folder(client) / video.file): video.name for video in videos.values()}
            names[f"{store}{os.sep}"] = ""
            self._run = asyncio.create_task(self._learn(learning, command, client, names))
            return learning

    async def cancel(self, client: str) -> Learning:
        """End a client's run.

        Raises:
            ClipError: 404, it is not running.
        """
        found = self.last(client)
        if found is None or found.state != "running" or self._run is None:
            raise ClipError("NOT_LEARNING", 404, "Nothing is being learned.", "It has ended already.")
        await self._end("cancelled")
        return found

    async def serve(self, client: str) -> Learning:
        """Have the engine serve what a client's run has learned.

        Raises:
            ClipError: 409, there is none.
        """
        store, found = self._store(), self.last(client)
        if found is None or found.state != "done" or not (store / (found.name + program.ARCHIVE)).is_file():
            raise ClipError("NOT_LEARNED", 409, "There is no model to be served.", "Learn one first.")
        if client not in self._serving:
            found.serving.state, found.serving.error = "asked", None
            task = asyncio.create_task(self._serve(found, client))
            self._serving[client] = task
            task.add_done_callback(lambda _: self._serving.pop(client, None))
        return found

    async def close(self) -> None:
        """End what runs. What was learned so far is kept, and found again by the next run."""
        await self._end("stopped")
        tasks = list(self._serving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _store(self) -> Path:
        if self.project is None or self._settings.model_store is None:
            raise ClipError(
                "CANNOT_LEARN",
                409,
                "This server has not what learning needs.",
                "Export the labels, and run make learn where the project is set up.",
            )
        return self._settings.model_store.resolve()

    def _marked(self, client: str) -> tuple[list[Span], dict[str, Video]]:
        """What a client has marked, and the videos by name.

        Raises:
            ClipError: 400, 409.
        """
        spans, videos = self._labels.get(client).spans, self._videos.all(client)
        if not spans:
            raise ClipError("NO_LABELS", 400, "Nothing is marked.", "Mark spans of your videos first.")
        missing = sorted({span.video for span in spans} - set(videos))
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            some = ", ".join(missing[:_NAMED]) + more
            hint = "Send them, or take their labels away."
            raise ClipError("VIDEOS_MISSING", 409, f"Videos are not on the server: {some}.", hint)
        return spans, videos

    async def _end(self, state: Literal["cancelled", "stopped"]) -> None:
        if self._run is not None and not self._run.done():
            self._ending = state
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)

    async def _learn(
        self, learning: Learning, command: list[str], client: str, names: Mapping[str, str]
    ) -> None:
        home = self._videos.home(client)
        try:
            with room_on_disk():
                code = await self._child(learning, command, home, names)
            if code == 0 and learning.result:
                await asyncio.to_thread(self._take_report, learning, client, names)
                learning.end("done")
            else:
                learning.error = learning.error or _silent(code, home / "learn.log", names)
                learning.end("failed")
        except asyncio.CancelledError:
            # It may have come to its end all the same.
            for ending in (program.ARCHIVE, program.REPORT):
                (self._store() / (learning.name + ending)).unlink(missing_ok=True)
            learning.end(self._ending)
        except ClipError as error:
            learning.error = Trouble.of(error)
            learning.end("failed")
        except Exception:
            logger.exception("Learning failed")
            learning.error = Trouble(code="INTERNAL", message="Learning failed.", hint="The log says more.")
            learning.end("failed")
        with suppress(OSError):
            learning.save(home)

    async def _child(self, learning: Learning, command: list[str], home: Path, names: Mapping[str, str]) -> int:
        """Run it to its end; returns its exit code."""
        loop = asyncio.get_running_loop()
        with (home / "learn.log").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.project,
                env=program.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=_LINE_BYTES,
            )
        saved = 0.0
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                with suppress(ValueError, KeyError, TypeError):
                    learning.tell(json.loads(_named(line.decode("utf-8", "replace"), names, _in_json)))
                if loop.time() - saved > _SAVE_SECONDS:
                    learning.save(home)
                    saved = loop.time()
            return await process.wait()
        finally:
            await program.stop(process)

    def _take_report(self, learning: Learning, client: str, names: Mapping[str, str]) -> None:
        """Put the names of the videos into the report, which knows only what they are called here."""
        path = self._store() / (learning.name + program.REPORT)
        text = _named(path.read_text(encoding="utf-8"), names, html.escape)
        path.write_text(text, encoding="utf-8")
        (self._videos.home(client) / "report.html").write_text(text, encoding="utf-8")
        learning.give_report(key_of(client))

    async def _serve(self, learning: Learning, client: str) -> None:
        try:
            await serve(self._engine, learning.name, self._settings.wishes)
            learning.serving.state = "yes"
        except asyncio.CancelledError:
            learning.serving.state = "no"
        except ClipError as error:
            learning.serving.state, learning.serving.error = "failed", Trouble.of(error)
        with suppress(OSError):
            learning.save(self._videos.home(client))


def _silent(code: int, log: Path, names: Mapping[str, str]) -> Trouble:
    """The error of a run that ended without a word: the last line that it printed."""
    last = _named(log.read_text(encoding="utf-8", errors="replace")[-_LAST_BYTES:], names).strip()
    message = f"Learning ended by itself (exit code {code})."
    return Trouble(code="LEARNING_FAILED", message=message, hint=last.rpartition("\n")[2])


def _named(text: str, names: Mapping[str, str], written: Callable[[str], str] = str) -> str:
    """A text with names in place of paths of this host.

    Args:
        text: it.
        names: path -> name; a folder's is empty.
        written: how the text's format writes a name.
    """
    for path, name in names.items():
        if path in text:
            text = text.replace(path, written(name))
    return text


def _in_json(name: str) -> str:
    return json.dumps(name)[1:-1]

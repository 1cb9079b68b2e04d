"""A course of work that is killed (SIGKILL) before and after each thing that it does to the disk.

What counts is what Python asks of the system, and each statement that reaches a SQLite file; what SQLite does
for one of these is for the tests of the store.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knockgate.store.base import PrivateBase

_CALLS = ("open", "fsync", "rename", "replace", "unlink", "link", "mkdir", "rmdir")
#: No course is as long as that.
_MOST = 400


def killed_everywhere(course: Callable[[], None], prepared: Callable[[], Path]) -> Iterator[tuple[str, Path]]:
    """Run the course once for each point, in a child, in a folder that ``prepared`` makes anew each time.

    Gives the point's name and the folder as it was left; at the end ``done`` and that of one that was not
    killed. The child is in the folder.
    """
    for point in range(1, _MOST):
        folder = prepared()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                os.chdir(folder)
                _watch(point, writer)
                course()
                status = 0
            except BaseException as error:  # noqa: BLE001 - the parent shows it
                os.write(writer, f"raised {error!r}".encode())
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as stream:
            name = stream.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            yield "done", folder
            return
        assert status == -signal.SIGKILL, name
        yield name, folder
    raise AssertionError("it has no end")


def _watch(point: int, writer: int) -> None:
    passed = 0

    def at(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == point:
            os.write(writer, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name: str, call: Callable[..., Any], *, said: int = 1) -> Callable[..., Any]:
        def instead(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the call itself
            what = f"{name} {' '.join(map(str, args[said - 1 : said + 1]))}"
            at(f"before {what}")
            answer = call(*args, **kwargs)
            at(f"after {what}")
            return answer

        return instead

    for name in _CALLS:
        setattr(os, name, watched(name, getattr(os, name)))
    PrivateBase.do = watched("do", PrivateBase.do, said=2)  # type: ignore[method-assign]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the child's end

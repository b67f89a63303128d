"""Files and folders written whole or not at all, and read back checked.

A folder is written under a temporary name: every file and then the folder is fsynced, `manifest.json` with the SHA-256
of every other file comes last, and the folder is renamed into place. What cannot be read is kept aside, never deleted.
What is made or renamed lasts once the folder that it is in is fsynced: that comes before anything that relies on it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aejax.runtime.errors import AejaxError, ConfigError, MachineError, ResultsError

MANIFEST = "manifest.json"
PARTIAL, REPLACED = ".partial-", ".replaced-"
FULL, UNWRITABLE = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)


def to_json(value: Any, **options: Any) -> str:
    """Strict JSON: a number that is not finite is an error, never a word that other readers choke on."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, **options)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new, never part of it."""
    with disk_errors_as_one_line(path, len(data)):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{PARTIAL}{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def commit(target: Path, files: Mapping[str, bytes], version: int, check: Callable[[Path], object]) -> Path:
    """Write the folder `target` with these files and their manifest, whole or not at all. Returns `target`.

    A folder already there is replaced; one that `check` refuses is kept as `.corrupt-<name>-<n>`. Raises MachineError,
    and then the old folder is as it was and nothing temporary is left.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files = {**files, MANIFEST: to_json({"format": version, "sha256": hashes}, indent=1).encode()}
    with disk_errors_as_one_line(target, sum(map(len, files.values()))):
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=PARTIAL))
        try:
            partial.chmod(0o755)
            for name, data in files.items():
                with (partial / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            _sync_folder(partial)
            aside = _put(partial, target, check)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(target.parent)
        if aside.name.startswith(REPLACED):
            shutil.rmtree(aside, ignore_errors=True)
    return target


def _put(partial: Path, target: Path, check: Callable[[Path], object]) -> Path:
    """Rename into place. Returns where an older folder of that name, if there is one, stands aside."""
    aside = target.with_name(f"{REPLACED}{target.name}")
    if target.exists():
        try:
            check(target)
        except AejaxError:
            aside = free_name(target.with_name(f".corrupt-{target.name}-1"))
        target.rename(aside)
    try:
        partial.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    return aside


def make_folder(folder: Path) -> None:
    """Make a folder, and those it is in, so that they last. Raises OSError."""
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, path in enumerate(missing) if path.exists())]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def recover(parent: Path) -> None:
    """Clear what a killed writer left in `parent`: partial writes go, a folder that stood aside for a lost one returns.

    Only for the one process that may write there: another's unfinished write would go too. Raises MachineError.
    """
    with disk_errors_as_one_line(parent):
        for leftover in [*parent.glob(f"{PARTIAL}*")]:
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        for aside in [*parent.glob(f"{REPLACED}*")]:
            target = aside.with_name(aside.name.removeprefix(REPLACED))
            if target.exists():
                discard(aside)
            else:
                aside.rename(target)


def clear_leftovers(folder: Path) -> None:
    """`recover` wherever aejax writes in a results folder: itself, its runs, its saved states."""
    states = [*(folder / "states").glob("[!.]*")]
    for parent in (folder, folder / "runs", folder / "states", *states):
        if parent.is_dir() and not parent.is_symlink():
            recover(parent)


def discard(folder: Path) -> None:
    """Remove a folder so that a crash leaves it whole, or under a name that `recover` clears; never half of it."""
    gone = free_name(folder.with_name(f"{PARTIAL}{folder.name}-1"))
    folder.rename(gone)
    _sync_folder(folder.parent)
    shutil.rmtree(gone, ignore_errors=True)


def free_name(path: Path) -> Path:
    """`path`, or the first of its like that is not taken: x-1, x-2, … for a name that ends in -1, else x, x-2, …"""
    stem = path.name.removesuffix("-1")
    names = itertools.chain([path.name], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(free for free in map(path.with_name, names) if not os.path.lexists(free))


def read(folder: Path, names: Sequence[str], version: int, fix: str) -> dict[str, bytes]:
    """The files of a committed folder, which holds exactly `names`, each checked against the manifest.

    `names[0]` is a JSON object whose `format` is the manifest's. Raises ResultsError (with `fix`) naming the file that
    is missing or damaged, ConfigError when the format is newer than `version`, MachineError without permission.
    """
    path = folder / MANIFEST
    data = _read(path, fix)
    try:
        manifest = json.loads(data)
        found, hashes = manifest["format"], dict(manifest["sha256"])
        if type(found) is not int or found < 1:
            raise ValueError
        newer = found > version and _says(folder / names[0], found)
        if not newer and (found > version or data != to_json(manifest, indent=1).encode() or len(manifest) != 2):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(str(path), "damaged: not as it was written", fix) from error
    if newer:
        raise ConfigError(str(folder), f"format {found}, this aejax reads up to {version}", "use a newer aejax")
    if set(hashes) != set(names):
        raise ResultsError(str(path), f"damaged: lists {', '.join(map(repr, hashes)) or 'no file'}", fix)
    files = {name: _read(folder / name, fix) for name in names}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ResultsError(str(folder / name), "damaged: its SHA-256 is not the manifest's", fix)
    head = json.loads(files[names[0]])
    if not isinstance(head, dict) or head.get("format") != found:
        raise ResultsError(str(path), f"damaged: format {found}, while {names[0]} has another", fix)
    return files


def _says(path: Path, version: int) -> bool:
    """Whether the file bears out that its folder has this format, or cannot be read; else the manifest is damaged."""
    try:
        head = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(head, dict) or head.get("format") == version


def _read(path: Path, fix: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ResultsError(str(path.parent), f"no {path.name} there", fix) from error
    except PermissionError as error:
        raise MachineError(str(path), "no permission to read", "give yourself permission to read it") from error
    except OSError as error:
        raise ResultsError(str(path), f"unreadable: {(error.strerror or 'damaged').lower()}", fix) from error


@contextlib.contextmanager
def disk_errors_as_one_line(path: Path, needed: int = 0) -> Iterator[None]:
    """Say what went wrong with the disk in one line. `needed`: bytes to be written inside. Raises MachineError."""
    try:
        yield
    except AejaxError:
        raise
    except OSError as error:
        where = str(error.filename or path)
        if error.errno in FULL:
            sizes = f"{(error.strerror or 'disk full').lower()}: {needed} bytes needed, {_free(path)} free"
            raise MachineError(str(path), sizes, "free space or choose another folder, then run again") from error
        if error.errno in UNWRITABLE:
            reason = "read-only" if error.errno == errno.EROFS else "no permission to write"
            raise MachineError(where, reason, "choose a folder you can write to") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise MachineError(where, reason, "mend that or choose another folder, then run again") from error


def _free(path: Path) -> str:
    """Free bytes on the disk that holds `path`, which need not be there yet."""
    for parent in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return str(shutil.disk_usage(parent).free)
    return "unknown"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

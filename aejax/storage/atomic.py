"""Atomic writing of files and folders, and checked reading.

A folder is written under a temporary name: each file is written and fsynced, `manifest.json` (the SHA-256 of every
other file) is the last of them, the folder is fsynced, and the folder is renamed to its final name. A new or renamed
file or folder survives a power cut only after the folder that contains it is fsynced; this fsync comes before anything
that relies on the new name. Damaged folders are renamed and kept, never deleted.
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
from typing import IO, Any

from aejax.runtime.errors import AejaxError, ConfigError, MachineError, ResultsError

MANIFEST = "manifest.json"
PARTIAL_PREFIX = ".partial-"
"""Start of the name of a file or folder that is not completely written."""
REPLACED_PREFIX = ".replaced-"
"""Start of the name of a folder that a new one is about to replace."""
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
PERMISSION_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS)


def to_json(value: Any, **options: Any) -> str:
    """The value as strict JSON. Raises ValueError on NaN and infinity, which JSON does not allow."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, **options)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it has either the old content or the new. Raises MachineError."""
    with disk_errors_as_one_line(path, len(data)):
        handle, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f"{PARTIAL_PREFIX}{path.name}-")
        temporary = Path(temporary_name)
        try:
            _write_synced(os.fdopen(handle, "wb"), data)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _write_synced(file: IO[bytes], data: bytes) -> None:
    """Write, fsync and close a file."""
    with file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def commit_folder(target: Path, files: Mapping[str, bytes], version: int, check: Callable[[Path], object]) -> Path:
    """Write the folder `target` with these files and their manifest, completely or not at all. Returns `target`.

    `version` is the format number in the manifest. An existing folder is replaced; if `check` raises AejaxError on it,
    it is damaged, and is kept as `.corrupt-<name>-<n>`. Raises MachineError; the existing folder is then unchanged and
    no temporary file is left.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files = {**files, MANIFEST: to_json({"format": version, "sha256": hashes}, indent=1).encode()}
    with disk_errors_as_one_line(target, sum(map(len, files.values()))):
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=PARTIAL_PREFIX))
        try:
            partial.chmod(0o755)
            for name, data in files.items():
                _write_synced((partial / name).open("wb"), data)
            _sync_folder(partial)
            replaced = _rename_into_place(partial, target, check)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(target.parent)
        if replaced.name.startswith(REPLACED_PREFIX):
            shutil.rmtree(replaced, ignore_errors=True)
    return target


def _rename_into_place(partial: Path, target: Path, check: Callable[[Path], object]) -> Path:
    """Rename `partial` to `target`. Returns the path to which an existing `target` is moved first."""
    replaced = target.with_name(f"{REPLACED_PREFIX}{target.name}")
    if target.exists():
        try:
            check(target)
        except AejaxError:
            replaced = next_free_path(target.with_name(f".corrupt-{target.name}-1"))
        target.rename(replaced)
    try:
        partial.rename(target)
    except BaseException:
        if replaced.exists():
            replaced.rename(target)
        raise
    return replaced


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, and fsync each new name. Raises OSError."""
    ancestry = [folder, *folder.parents]
    missing = ancestry[: next(i for i, path in enumerate(ancestry) if path.exists())]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Repair what a killed writer left behind in a results folder, in its `runs` and in its `states`.

    Only the one process that may write there may call this: it removes unfinished writes. Raises MachineError.
    """
    for parent in (folder, folder / "runs", folder / "states", *(folder / "states").glob("[!.]*")):
        if parent.is_dir() and not parent.is_symlink():
            _clear_leftovers_in(parent)


def _clear_leftovers_in(parent: Path) -> None:
    """Delete partial writes in `parent`, and rename a folder back if the writer died while replacing it."""
    with disk_errors_as_one_line(parent):
        for leftover in [*parent.glob(f"{PARTIAL_PREFIX}*")]:
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        for replaced in [*parent.glob(f"{REPLACED_PREFIX}*")]:
            target = replaced.with_name(replaced.name.removeprefix(REPLACED_PREFIX))
            if target.exists():
                remove_folder(replaced)
            else:
                replaced.rename(target)


def remove_folder(folder: Path) -> None:
    """Delete a folder. After a crash it is complete, or has a name that `clear_leftovers` deletes."""
    partial = next_free_path(folder.with_name(f"{PARTIAL_PREFIX}{folder.name}-1"))
    folder.rename(partial)
    _sync_folder(folder.parent)
    shutil.rmtree(partial, ignore_errors=True)


def next_free_path(path: Path) -> Path:
    """`path` if nothing has that name, otherwise the first free one of `x-2`, `x-3`, … for a path `x` or `x-1`."""
    stem = path.name.removesuffix("-1")
    names = itertools.chain([path.name], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in map(path.with_name, names) if not os.path.lexists(candidate))


def read_committed(folder: Path, names: Sequence[str], version: int, fix: str) -> tuple[Any, dict[str, bytes]]:
    """The JSON object in the first file of a committed folder, and the content of all files by name.

    Every file is checked against the manifest. The folder must contain exactly `names`. `names[0]` is a JSON object
    with the same `format` as the manifest.
    `version` is the newest format that can be read. Raises ResultsError (with `fix`) naming the file that is missing or
    damaged, ConfigError for a format newer than `version`, MachineError without permission to read.
    """
    path = folder / MANIFEST
    data = _read_file(path, fix)
    try:
        manifest = json.loads(data)
        stored_version = manifest["format"]
        hashes = dict(manifest["sha256"])
        if type(stored_version) is not int or stored_version < 1:
            raise ValueError
        is_newer = stored_version > version
        if is_newer and not _confirms_format(folder / names[0], stored_version):
            raise ValueError
        if not is_newer and (data != to_json(manifest, indent=1).encode() or len(manifest) != 2):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(str(path), "damaged: not as it was written", fix) from error
    if is_newer:
        problem = f"format {stored_version}, this aejax reads up to {version}"
        raise ConfigError(str(folder), problem, "use a newer aejax")
    if set(hashes) != set(names):
        raise ResultsError(str(path), f"damaged: lists {', '.join(map(repr, hashes)) or 'no file'}", fix)
    files = {name: _read_file(folder / name, fix) for name in names}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ResultsError(str(folder / name), "damaged: its SHA-256 is not the manifest's", fix)
    head = json.loads(files[names[0]])
    if not isinstance(head, dict) or head.get("format") != stored_version:
        raise ResultsError(str(path), f"damaged: format {stored_version}, while {names[0]} has another", fix)
    return head, files


def _confirms_format(path: Path, version: int) -> bool:
    """Whether the JSON file has this format number too, or cannot be read. If not, the manifest is damaged."""
    try:
        head = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return not isinstance(head, dict) or head.get("format") == version


def _read_file(path: Path, fix: str) -> bytes:
    """The content of a file. Raises ResultsError (with `fix`), or MachineError without permission."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ResultsError(str(path.parent), f"no {path.name} there", fix) from error
    except PermissionError as error:
        raise MachineError(str(path), "no permission to read", "give yourself permission to read it") from error
    except OSError as error:
        raise ResultsError(str(path), f"unreadable: {(error.strerror or 'damaged').lower()}", fix) from error


@contextlib.contextmanager
def disk_errors_as_one_line(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn an OSError raised inside this block into a MachineError of one line.

    `path` is the file or folder that is written inside the block, `needed_bytes` its size.
    """
    try:
        yield
    except AejaxError:
        raise
    except OSError as error:
        failed_path = str(error.filename or path)
        if error.errno in DISK_FULL_ERRORS:
            reason = (error.strerror or "disk full").lower()
            problem = f"{reason}: {needed_bytes} bytes needed, {_free_bytes(path)} free"
            raise MachineError(str(path), problem, "free space or choose another folder, then run again") from error
        if error.errno in PERMISSION_ERRORS:
            reason = "read-only" if error.errno == errno.EROFS else "no permission to write"
            raise MachineError(failed_path, reason, "choose a folder you can write to") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise MachineError(failed_path, reason, "fix that or choose another folder, then run again") from error


def _free_bytes(path: Path) -> str:
    """Free bytes on the disk that contains `path`, as text. `path` need not exist yet."""
    for parent in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return str(shutil.disk_usage(parent).free)
    return "unknown"


def _sync_folder(folder: Path) -> None:
    """Fsync a folder, so that the names in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

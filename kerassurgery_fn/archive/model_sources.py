"""Where models and weights are read from: archives, folders, weight files, and weight files in shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kerassurgery_fn.archive.archive_members import CONFIG, MAX_JSON, MAX_MEMBERS, WEIGHTS, Members, open_archive
from kerassurgery_fn.archive.folder_members import FolderMembers, open_region
from kerassurgery_fn.archive.h5_weights import WeightFile, open_weights
from kerassurgery_fn.archive.json_limits import parse_json
from kerassurgery_fn.documents.safe_files import read_limited
from kerassurgery_fn.errors import BadFile


@contextmanager
def open_members(path: str) -> Iterator[Members | FolderMembers]:
    """The members of a `.keras` file, or of the folder form of it.

    Raises:
        BadFile: it cannot be read, or it is not a saved model; or see `Members`.
    """
    if not Path(path).is_dir():
        with open_archive(path) as members:
            yield members
    elif (Path(path) / CONFIG).exists():
        yield FolderMembers(path)
    else:
        raise BadFile(f"{path} is a folder without {CONFIG}")


@contextmanager
def open_weight_file(path: str, lazy: bool) -> Iterator[WeightFile]:
    """The weights in a `.weights.h5` file, in shards listed by a `.weights.json` file, or of a saved model.

    Raises:
        BadFile: a file cannot be read, or is not a weight file.
    """
    with ExitStack() as stack:
        if path.endswith(".json"):
            regions = [stack.enter_context(open_region(shard)) for shard in _shards(Path(path))]
        elif path.endswith(".keras") or Path(path).is_dir():
            members = stack.enter_context(open_members(path))
            regions = [stack.enter_context(members.open(WEIGHTS, check=not lazy))]
        else:
            regions = [stack.enter_context(open_region(Path(path)))]
        yield stack.enter_context(open_weights(regions, path, lazy))


def _shards(path: Path) -> list[Path]:
    """The files that a `.weights.json` file lists, which are in the same folder.

    Raises:
        BadFile: the file does not list files of its folder.
    """
    listing = parse_json(read_limited(path, MAX_JSON), str(path))
    groups = listing.get("weight_map") if isinstance(listing, Mapping) else None
    if not isinstance(groups, Mapping):
        raise BadFile(f"{path} has no weight_map, which lists the shards of a model's weights")
    names: dict[str, None] = {}
    for shards in groups.values():
        for name in shards if isinstance(shards, list) else [shards]:
            if not isinstance(name, str) or not name or Path(name).name != name:
                raise BadFile(f"{path}: {name!r} is not the name of a file in its folder")
            names[name] = None
    if len(names) > MAX_MEMBERS:
        raise BadFile(f"{path} lists {len(names):,} shards, more than {MAX_MEMBERS:,}")
    return [path.with_name(name) for name in names]

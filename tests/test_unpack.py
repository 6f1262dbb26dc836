"""A stored bundle is unpacked whole, as its digest says, and within bounds; else it is refused and leaves nothing."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from starburst_common.code import bundle as bundles
from starburst_common.code.bundle import bundle_of
from starburst_common.code.files import File, Module
from starburst_common.code.pack import pack_function
from starburst_common.code.stamps import Stamp
from starburst_common.code.unpack import unpack_bundle
from starburst_common.errors import BadInput, Refused
from starburst_common.local import local_backend
from starburst_common.model import RunId
from starburst_common.names import RunNames, code_key
from starburst_common.ports import Backend
from starburst_common.wire.functions import deflated, inflated
from starburst_common.wire.seals import seal
from tests import calls


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    """A place of its own."""
    return local_backend(tmp_path / "home")


def made() -> Any:
    """A bundle of a module with two files."""
    packed = pack_function(calls.add, style="one", retry_on=())
    assert packed.bundle is not None
    return packed


def place(digest: str) -> str:
    """Where a run has it."""
    return code_key(RunNames(RunId("run-x")).function("f"), digest)


def stored(backend: Backend, digest: str, archive: bytes) -> None:
    """Seal and store it, as one who has the key does."""
    backend.store.put(place(digest), seal(backend.key, place(digest), [archive]))


def zipped(**files: bytes) -> bytes:
    """A zip."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for name, body in files.items():
            out.writestr(zipfile.ZipInfo(name), body)
    return archive.getvalue()


def test_a_bundle_comes_out_as_it_went_in(backend: Backend, tmp_path: Path) -> None:
    """Every file with its bytes, its owner's alone."""
    bundle = made().bundle
    stored(backend, bundle.digest, bundle.archive)
    unpack_bundle(backend, place(bundle.digest), tmp_path / "code")
    with zipfile.ZipFile(io.BytesIO(bundle.archive)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.relative_to(tmp_path / "code").as_posix(): path.read_bytes()
            for path in (tmp_path / "code").rglob("*")
            if path.is_file()
        }
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "code", *(tmp_path / "code").rglob("*")))


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (zipped(**{"x.py": b"1"}), "its files are those of"),
        (zipped(**{"/etc/x": b"1"}), "an entry named '/etc/x'"),
        (zipped(**{"a/../../x": b"1"}), "an entry named"),
        (zipped(**{"a/./x": b"1"}), "an entry named"),
        (zipped(**{"a/": b""}), "an entry named"),
        (b"no zip", "no zip of files"),
        (zipped(**{"x.py": b"1" * 1000})[:-30], "no zip of files"),
    ],
)
def test_what_is_not_its_digest_or_no_bundle_is_refused(
    backend: Backend, archive: bytes, said: str, tmp_path: Path
) -> None:
    """A signature alone is not enough, and nothing of it stays."""
    stored(backend, "0" * 32, archive)
    with pytest.raises(Refused, match=said):
        unpack_bundle(backend, place("0" * 32), tmp_path / "code")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_a_bundle_that_unpacks_to_too_much_is_refused(backend: Backend, tmp_path: Path) -> None:
    """By what it says of itself, before anything is unpacked; what it hides is not unpacked either."""
    lying = bytearray(zipped(**{"x.py": bytes(1 << 20)}))
    big = bytearray(lying)
    at = big.rindex(b"PK\x01\x02")
    big[at + 24 : at + 28] = (bundles.BUNDLE_BYTES + 1).to_bytes(4, "little")
    stored(backend, "0" * 32, bytes(big))
    with pytest.raises(Refused, match="more than 100,000 and 1,073,741,824"):
        unpack_bundle(backend, place("0" * 32), tmp_path / "code")
    lying[at + 24 : at + 28] = (10).to_bytes(4, "little")
    stored(backend, "0" * 32, bytes(lying))
    with pytest.raises(Refused):
        unpack_bundle(backend, place("0" * 32), tmp_path / "code")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize(
    ("files", "size", "said"), [(1, bundles.BUNDLE_BYTES + 1, "1 files with 1,074 MB"), (100_001, 1, "100,001 files")]
)
def test_modules_that_are_too_much_are_told_before_anything_is_launched(files: int, size: int, said: str) -> None:
    """The message says how much there is, how much may be, and what to do."""
    file = File(Path("x/data.bin"), "x/data.bin", Stamp(0, 0, size, 0o644))
    with pytest.raises(BadInput, match=f"{said}.*starburstignore"):
        bundle_of({"x": Module((file,) * files)})


def test_a_function_is_compressed_where_that_saves_something() -> None:
    """Random numbers stay as they are, which costs a tenth; what shrinks does, also behind some that do not."""
    noise = random.Random(1).randbytes(1 << 20)
    assert (1 << 20) < len(deflated(noise, b"")) < (1 << 20) + 1000
    assert len(deflated(noise + bytes(3 << 20), b"")) < (1 << 20) + 50_000
    assert inflated(deflated(noise, b"sources")) == (noise, b"sources")


def test_a_function_is_decompressed_within_bounds() -> None:
    """One that is cut off or no zlib stream is refused."""
    whole = deflated(b"pickled", b"sources")
    assert inflated(whole) == (b"pickled", b"sources")
    for blob in (whole[:-1], b"", b"junk"):
        with pytest.raises(Refused, match="function"):
            inflated(blob)

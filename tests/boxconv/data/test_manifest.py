"""SHA-256 manifests: read by sha256sum, and every missing, changed and added file is found."""

import os
import shutil
import subprocess
from pathlib import Path

import data_trees
import pytest

from boxconv.data.checks.manifest import files_below, verify_manifest, write_manifest
from boxconv.data.classes import DataError

HOSTILE = [b"a\nb", b"back\\slash", b"back\\nslash", b"\xff", b" blank ", b"*star", b"carriage\rreturn"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = data_trees.folder(tmp_path / "data")
    for name in HOSTILE:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
    return root


def test_round_trip_with_any_name(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    assert write_manifest(root, path) == 12 + 1 + len(HOSTILE)
    difference = verify_manifest(root, path)
    assert difference.ok
    assert difference.text() == "20 files, all as in the manifest"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_the_program_sha256sum_agrees(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    write_manifest(root, path)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", path], cwd=root, check=True)
    theirs = subprocess.run(["sha256sum", "--", *files_below(root)], cwd=root, check=True, capture_output=True)
    (tmp_path / "theirs").write_bytes(theirs.stdout)
    assert verify_manifest(root, tmp_path / "theirs").ok


def test_every_change_is_found(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    write_manifest(root, path)
    (root / "images/train/scene0.png").unlink()
    changed = root / "labels/val/scene1.png"
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    status = changed.stat()
    changed.write_bytes(content)
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "images/val/new.png").touch()
    replaced = root / "labels/val/scene0.png"
    replaced.unlink()
    replaced.symlink_to("nowhere")
    difference = verify_manifest(root, path)
    assert difference.missing == ["images/train/scene0.png"]
    assert difference.changed == ["labels/val/scene1.png"]
    assert difference.added == ["images/val/new.png"]
    assert len(difference.unreadable) == 1
    assert "labels/val/scene0.png: cannot be read (a link to nowhere)" in difference.unreadable[0]
    text = difference.text()
    assert "changed since the manifest: 1\n  labels/val/scene1.png" in text


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "real" / "deep" / "file").write_text("a")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "loop").symlink_to(tmp_path / "data")
    assert files_below(tmp_path / "data") == ["link/deep/file"]


def test_refusals(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never written to"):
        write_manifest(root, root / "SHA256SUMS")
    with pytest.raises(DataError, match="no such folder"):
        write_manifest(tmp_path / "nowhere", tmp_path / "sums")
    os.mkfifo(root / "pipe")
    with pytest.raises(DataError, match="pipe: expected a file, found a pipe; 1 of 21 files"):
        write_manifest(root, tmp_path / "sums")
    assert not (tmp_path / "sums").exists()
    for text in ("rubbish\n", "0" * 64 + " \n", "0" * 63 + "  name\n", "g" * 64 + "  name\n"):
        (tmp_path / "sums").write_text(text)
        with pytest.raises(DataError, match="line 1: expected a SHA-256"):
            verify_manifest(root, tmp_path / "sums")
    with pytest.raises(DataError, match="none: cannot be read"):
        verify_manifest(root, tmp_path / "none")

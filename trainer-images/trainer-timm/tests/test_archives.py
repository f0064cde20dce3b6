"""Archives as people upload them: read by their content, or refused with their kind and the fix; bombs refused."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import inflate64
import pytest

from dataset.report import Report
from dataset.unpacking import unpack
from utils import ConfigInvalidError, DatasetInvalidError

Files = dict[str, bytes]
GOOD: Files = {"train/cat/0.jpg": b"a cat" * 99, "train/dog/0.jpg": b"a dog", "readme.md": b"x"}
IMAGES = {name: content for name, content in GOOD.items() if name.endswith(".jpg")}


def unpacked(folder: Path, archive: bytes) -> tuple[Files, Report]:
    report, path, out = Report("cats.zip"), folder / "dataset.zip", folder / "out"
    folder.mkdir(exist_ok=True)
    path.write_bytes(archive)
    unpack(path, out, lambda name: name.suffix not in {".md", ".zip"}, report, lambda: None)
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}, report


def refusal(folder: Path, archive: bytes) -> str:
    with pytest.raises(DatasetInvalidError) as refused:
        unpacked(folder, archive)
    assert not (folder / "out").exists()
    return str(refused.value)


def zipped(files: Files = GOOD, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files: Files = GOOD, *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return file.getvalue()


def folder(name: str) -> tarfile.TarInfo:
    """Return the entry of a folder: ``tar -c .`` begins with one without a name."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def raw_zip(entries: list[tuple[bytes, bytes]], *, extra: bytes = b"", method: int = 0, flags: int = 0) -> bytes:
    """Return a zip archive byte by byte, such as zipfile does not write: names of any bytes, any method."""
    body, directory = b"", b""
    for name, content in entries:
        deflater = inflate64.Deflater()
        packed = deflater.deflate(content) + deflater.flush() if method == 9 else content
        sizes = struct.pack("<LLL", zlib.crc32(content), len(packed), len(content))
        lengths = struct.pack("<HH", len(name), len(extra))
        common = struct.pack("<HHHHH", 20, flags, method, 0, 0x21) + sizes + lengths
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common
        directory += struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name + extra
        body += b"PK\x03\x04" + common + name + extra + packed
    end = struct.pack("<HHHHLLH", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


@pytest.mark.parametrize(
    "packed",
    [
        zipped(),
        zipped(method=zipfile.ZIP_STORED),
        zipped(method=zipfile.ZIP_BZIP2),
        zipped(method=zipfile.ZIP_LZMA),
        b"#!/bin/sh a self-extracting archive\n" + zipped(),
        tarred(),
        gzip.compress(tarred()),
        bz2.compress(tarred()),
        lzma.compress(tarred()),
        lzma.compress(tarred(), format=lzma.FORMAT_ALONE),
        tarred({}, folder("./"))[:512] + tarred(),
        raw_zip([(name.encode(), content) for name, content in GOOD.items()], method=9),
    ],
    ids=[
        "deflate",
        "stored",
        "bzip2",
        "lzma",
        "sfx",
        "tar",
        "tar.gz",
        "tar.bz2",
        "tar.xz",
        "tar.lzma",
        "tar of .",
        "deflate64",
    ],
)
def test_archives_of_any_usual_kind_are_read_by_their_content(tmp_path: Path, packed: bytes) -> None:
    files, report = unpacked(tmp_path, packed)

    assert files == IMAGES
    assert (report.files, report.bytes) == (2, sum(map(len, IMAGES.values())))
    assert dict(report.skipped) == {".md": 1}


def test_a_large_entry_in_deflate64_is_read_and_its_checksum_is_checked(tmp_path: Path) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(700_000))
    packed = raw_zip([(b"a.jpg", content)], method=9)

    assert unpacked(tmp_path, packed)[0] == {"a.jpg": content}

    crc = struct.pack("<L", zlib.crc32(content))
    with pytest.raises(DatasetInvalidError, match="CRC"):
        unpacked(tmp_path / "..", packed.replace(crc, b"\x00\x01\x02\x03"))


@pytest.mark.parametrize(
    ("packed", "named"),
    [
        (b"", "empty (0 bytes)"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7-Zip archive, not a zip: make a .zip"),
        (b"Rar!\x1a\x07\1\0", "a RAR archive, not a zip: make a .zip"),
        (b"\x28\xb5\x2f\xfd\0", "zstd"),
        (b"\r\n<!DOCTYPE html><html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\xff\xd8\xff\xe0 an image", "one JPEG image"),
        (b"%PDF-1.7", "a PDF"),
        (b"PAR1", "Parquet"),
        (b"words", "not an archive"),
        (zipped()[:-60], "cut off"),
        (zipped()[:200], "cut off"),
        (gzip.compress(tarred())[:-40], "cut off"),
        (gzip.compress(b"no tar" * 200), "what is compressed is no tar archive: unpack it once"),
        (gzip.compress(gzip.compress(tarred())), "what is compressed is another archive: unpack it once"),
        (gzip.compress(zipped()), "what is compressed is another archive"),
        (b"\0" * 40_000 + b"\1CD001", "not an archive"),
        (zipped()[:300], "the first of several parts (.zip.001): join them"),
        (zipped()[300:], "one of several parts to join"),
        (raw_zip([(b"a.jpg", b"x")]).replace(b"\0" * 8 + b"a.jpg", b"\0" * 4 + b"\xff" * 4 + b"a.jpg"), "damaged"),
        (b"PK\x07\x08" + zipped(), "split"),
        (zipped().replace(b"PK\x05\x06\0\0\0\0", b"PK\x05\x06\2\0\2\0"), "split"),
        (raw_zip([(b"a.jpg", b"x")], flags=1), "a.jpg: encrypted: make the archive without a password"),
        (raw_zip([(b"a.jpg", b"x")], method=99), "a.jpg: encrypted"),
        (raw_zip([(b"a.jpg", b"x")], method=97), "a.jpg: compressed in a way that is not supported: use Deflate"),
        (zipped({"set/data.zip": zipped()}), "holds another one, data.zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unreadable_archives_are_refused_with_their_kind_and_the_fix(tmp_path: Path, packed: bytes, named: str) -> None:
    assert named in refusal(tmp_path, packed)


@pytest.mark.parametrize(
    ("packed", "found", "changed"),
    [
        (zipped(method=zipfile.ZIP_BZIP2), b"BZh9", b"BZx9"),
        (zipped(method=zipfile.ZIP_STORED), b"a cata cat", b"a cata bat"),
    ],
    ids=["bzip2", "checksum"],
)
def test_damaged_contents_are_refused(tmp_path: Path, packed: bytes, found: bytes, changed: bytes) -> None:
    assert packed.count(found)

    with pytest.raises(DatasetInvalidError, match="damaged"):
        unpacked(tmp_path, packed.replace(found, changed, 1))


@pytest.mark.parametrize("packed", [zipped, tarred], ids=["zip", "tar"])
def test_a_hidden_folder_around_all_files_is_read_but_none_among_others(
    tmp_path: Path, packed: Callable[[Files], bytes]
) -> None:
    hidden = {f".cats/{name}": content for name, content in IMAGES.items()}

    assert unpacked(tmp_path / "a", packed(hidden | {".cats/._0.jpg": b"x"}))[0] == hidden
    assert unpacked(tmp_path / "b", packed(hidden | {"c/0.jpg": b"x"}))[0] == {"c/0.jpg": b"x"}


def test_folders_with_a_backslash_are_folders(tmp_path: Path) -> None:
    packed = raw_zip([(b"train\\", b""), (b"train\\cat\\", b""), (b"train\\cat\\0.jpg", b"x")])

    assert unpacked(tmp_path, packed)[0] == {"train/cat/0.jpg": b"x"}


def test_names_are_decoded_before_backslashes_become_slashes(tmp_path: Path) -> None:
    names = [f"train/{word}/{number}.jpg" for word in ("ソファ", "ソース", "机") for number in range(2)]

    files, report = unpacked(tmp_path, raw_zip([(name.encode("cp932"), b"x") for name in names]))

    assert sorted(files) == sorted(names)
    assert "cp932" in report.guesses[0]["message"]


def test_a_name_in_the_unicode_field_is_used(tmp_path: Path) -> None:
    raw, name = "고양이.jpg".encode("cp949"), "고양이.jpg"
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field

    files, report = unpacked(tmp_path, raw_zip([(raw, b"x")], extra=extra))

    assert list(files) == [name]
    assert not report.guesses


def test_the_encoding_of_names_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = raw_zip([("番茄.jpg".encode("gbk"), b"x"), ("黄瓜.jpg".encode("gbk"), b"x")])

    monkeypatch.setenv("DATASET_ENCODING", "gbk")
    assert sorted(unpacked(tmp_path, packed)[0]) == ["番茄.jpg", "黄瓜.jpg"]
    monkeypatch.setenv("DATASET_ENCODING", "klingon")
    with pytest.raises(ConfigInvalidError, match="DATASET_ENCODING=klingon"):
        unpacked(tmp_path, packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_two_files_of_one_name_is_used_with_a_warning(tmp_path: Path) -> None:
    packed = raw_zip([(b"a.jpg", b"old"), (b"b.jpg", b"x"), (b"a.jpg", b"new")])

    files, report = unpacked(tmp_path, packed)

    assert files == {"a.jpg": b"new", "b.jpg": b"x"}
    assert "a.jpg" in report.guesses[0]["message"]


def with_mode(mode: int) -> bytes:
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr, info.create_system = mode << 16, 3
    file = io.BytesIO(zipped())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def tar_entry(kind: bytes, name: str = "link.jpg") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return tarred(GOOD, info)


@pytest.mark.parametrize(
    ("packed", "named"),
    [
        (with_mode(stat.S_IFLNK | 0o777), "a symbolic link"),
        (with_mode(stat.S_IFIFO | 0o644), "a symbolic link or device"),
        (tar_entry(tarfile.SYMTYPE), "a symbolic link"),
        (tar_entry(tarfile.LNKTYPE), "a symbolic link"),
        (tar_entry(tarfile.CHRTYPE), "a symbolic link or device"),
        (tarred({"../x.jpg": b"x"}), "leads outside"),
        (tarred({"/etc/x.jpg": b"x"}), "absolute"),
        (zipped({"../x.jpg": b"x"}), "leads outside"),
        (zipped({"a.jpg": b"x", "a.jpg/b.jpg": b"x"}), "this folder as a file"),
    ],
)
def test_links_and_paths_that_lead_outside_are_refused_and_nothing_is_written(
    tmp_path: Path, packed: bytes, named: str
) -> None:
    assert named in refusal(tmp_path, packed)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.zip"]


ZEROS = bytes(21_000_000)


@pytest.mark.parametrize(
    ("packed", "named"),
    [
        (lambda: zipped({"a.txt": ZEROS}), "a.txt: 1[0-9]{3} times larger"),
        (lambda: zipped({"a.jpg": ZEROS}), "a.jpg: 1[0-9]{3} times larger"),
        (lambda: zipped({f"{n}.txt": ZEROS[:9_900_000] for n in range(3)}), "29700000 bytes unpacked"),
        (lambda: gzip.compress(tarred({"a.txt": ZEROS})), "21000000 bytes unpacked"),
    ],
    ids=["text", "jpeg", "many", "tar.gz"],
)
def test_bombs_are_refused_with_the_limit_that_can_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: Callable[[], bytes], named: str
) -> None:
    content = packed()
    with pytest.raises(DatasetInvalidError, match=named) as refused:
        unpacked(tmp_path, content)
    assert "raise DATASET_RATIO_LIMIT" in str(refused.value)

    monkeypatch.setenv("DATASET_RATIO_LIMIT", "2000")
    assert unpacked(tmp_path, content)[0]


def test_flat_bitmaps_are_no_bomb(tmp_path: Path) -> None:
    files, _ = unpacked(tmp_path, zipped({f"{number}.bmp": bytes(14_000_000) for number in range(3)}))

    assert len(files) == 3


@pytest.mark.parametrize(
    ("limit", "value"), [("DATASET_FILE_LIMIT", "2"), ("DATASET_BYTES_LIMIT", "400")], ids=["files", "bytes"]
)
@pytest.mark.parametrize("packed", [zipped(), gzip.compress(tarred())], ids=["zip", "tar.gz"])
def test_too_many_files_or_bytes_name_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: str, packed: bytes
) -> None:
    monkeypatch.setenv(limit, value)

    assert limit in refusal(tmp_path, packed)


def test_a_header_of_any_size_in_a_tar_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    header = info.tobuf(tarfile.GNU_FORMAT)

    assert "too large" in refusal(tmp_path, header + bytes(10_240))


def test_a_zip_beside_images_stays_packed_and_is_counted(tmp_path: Path) -> None:
    report, path = Report(), tmp_path / "dataset.zip"
    path.write_bytes(zipped(IMAGES | {"more.zip": zipped()}))

    unpack(path, tmp_path / "out", lambda name: name.suffix == ".jpg", report, lambda: None)

    assert dict(report.skipped) == {".zip": 1}
    assert not list((tmp_path / "out").rglob("*.zip"))


def test_each_file_can_stop_the_unpacking(tmp_path: Path) -> None:
    (tmp_path / "dataset.zip").write_bytes(zipped())

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "dataset.zip", tmp_path / "out", lambda _name: True, Report(), stop)

"""The problems that audit finds."""

import tomllib

import pytest

from infra.local import audit
from tests.conftest import ROOT

HASH = "sha256:" + "0" * 64


def package(**fields: object) -> dict[str, object]:
    return {"name": "one", "version": "1", "source": {"registry": "x"}, "wheels": [{"hash": HASH}], **fields}


@pytest.mark.parametrize("name", audit.LOCKS)
def test_each_file_of_each_lock_has_a_hash(name: str) -> None:
    assert audit.unhashed(tomllib.loads((ROOT / name).read_text())) == []


@pytest.mark.parametrize(
    "fields",
    [{"wheels": [{}]}, {"wheels": []}, {"wheels": [{"hash": HASH}, {"hash": "md5:0"}]}, {"sdist": {"url": "x"}}],
)
def test_a_file_without_a_hash_is_found(fields: dict[str, object]) -> None:
    assert audit.unhashed({"package": [package(**fields)]}) == ["one 1"]


def test_an_installed_package_that_is_not_locked_is_found() -> None:
    assert audit.unlocked({"package": [package()]}, {"one": "1", "two": "1"}) == ["two 1"]
    assert audit.unlocked({"package": [package()]}, {"one": "2"}) == ["one 2"]


def test_packages_that_were_not_looked_up_are_not_reported_as_safe() -> None:
    report = {
        "dependencies": [
            {"name": "bad", "version": "1", "vulns": [{"id": "CVE-1"}]},
            {"name": "good", "version": "1", "vulns": []},
            {"name": "unknown", "skip_reason": "could not be audited"},
        ]
    }

    assert audit.vulnerable(report) == (["bad 1: CVE-1"], ["unknown"])

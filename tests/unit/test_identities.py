"""Identities distinguish requests, and fit an index."""

import hashlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from functions.domain import identities

PAIRS, UPLOADS = st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text(), st.text())


@given(UPLOADS, UPLOADS)
def test_identities_differ_as_uploads_do(one: Any, other: Any) -> None:
    assert (identities.of_upload(*one) == identities.of_upload(*other)) == (one == other)


@given(PAIRS, PAIRS)
def test_identities_differ_as_events_and_keys_do(one: Any, other: Any) -> None:
    assert (identities.of_event(*one) == identities.of_event(*other)) == (one == other)
    assert (identities.of_request(*one) == identities.of_request(*other)) == (one == other)
    assert identities.of_event(*one) != identities.of_request(*one)


@given(st.text(min_size=1_000, max_size=2_000), st.text())
def test_an_identity_always_has_64_characters(one: str, other: str) -> None:
    for identity in (
        identities.of_upload(one, other, one),
        identities.of_event(one, one),
        identities.of_request(one, one),
    ):
        assert len(identity) == len(identity.encode()) == 64


def test_an_identity_is_the_digest_of_the_text_that_earlier_releases_stored() -> None:
    assert identities.of_upload("b", "ü", "e") == hashlib.sha256(rb'["upload", "b", "\u00fc", "e"]').hexdigest()
    assert identities.of_event("/shop", "1") == hashlib.sha256(b'["event", "/shop", "1"]').hexdigest()
    assert identities.of_request("ada", "k") == hashlib.sha256(b'["idempotency-key", "ada", "k"]').hexdigest()

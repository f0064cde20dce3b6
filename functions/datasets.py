"""datasets: lists, shows and deletes the datasets in the bucket, and links for uploading one, which can be resumed."""

import logging
import unicodedata
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from functions.api import specs, tokens
from functions.api.requests import Request
from functions.api.responses import Response, Time, empty, reply
from functions.api.routes import api, function, route
from functions.domain import names
from functions.domain.errors import InUse, NotFound, Unusable, unusable_field
from functions.events import notifications
from functions.runtime import datasets as stored
from functions.runtime import storage
from functions.runtime.datasets import StoredDataset, StoredPart
from functions.runtime.logs import log
from functions.runtime.settings import settings
from functions.store import queries

READ = api("jobs:read", "jobs:write", "datasets:write")
WRITE = api("datasets:write")
#: how many of the open jobs a refusal names
_NAMED = 20

Metadata = Annotated[
    dict[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z0-9][a-z0-9-]*\Z",
                max_length=64,
                description="a name in lower case, such as stoker-model",
            ),
        ],
        Annotated[str, Meta(max_length=stored.METADATA_LIMIT_BYTES)],
    ],
    Meta(max_length=50),
]


class DatasetsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The query parameters of the list of datasets."""

    #: the ``next_after`` of the page before
    after: Annotated[str, Meta(max_length=1_024)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class Dataset(msgspec.Struct):
    """A dataset in the bucket, as it is now. ``jobs``: the number of its jobs, counted up to 1,000."""

    name: str
    key: str
    bytes: int
    etag: str
    modified_at: Time
    jobs: int


class DatasetsPage(msgspec.Struct):
    """A page of datasets, by key; it may hold fewer than ``limit`` although more follow."""

    datasets: list[Dataset]
    next_after: str | None


class DatasetVersion(msgspec.Struct):
    """A version that jobs use; ``etag`` is null for jobs whose version is unknown."""

    etag: str | None
    jobs: int
    last_job_id: str
    last_job_at: Time


class DatasetDetails(Dataset):
    """A dataset with the versions that its newest 1,000 jobs use, the last used first."""

    versions: list[DatasetVersion]


class NewUpload(msgspec.Struct, forbid_unknown_fields=True):
    """The request for an upload of this size, with metadata such as ``stoker-model``, or ``job: none``."""

    bytes: Annotated[int, Meta(ge=1, le=5 * 1024**4)]
    metadata: Metadata = {}


class UploadLinks(msgspec.Struct):
    """Links for an upload: one PUT with these headers, or a PUT for each part and a POST to ``complete_url``."""

    #: None if the upload is one PUT
    upload_id: str | None
    key: str
    #: the size of each part but the last
    part_bytes: int
    urls: list[str]
    #: to be sent with the PUT
    headers: dict[str, str]
    expires_at: Time
    complete_url: str | UnsetType = UNSET
    abort_url: str | UnsetType = UNSET


class StartedUpload(msgspec.Struct):
    """An upload in parts: the parts that the storage has, and new links for all."""

    upload_id: str
    key: str
    bytes: int
    part_bytes: int
    parts: list[StoredPart]
    urls: list[str]
    complete_url: str
    abort_url: str
    expires_at: Time


@route("GET", "/v1/datasets", access=READ)
def list_datasets(_: Request, query: DatasetsQuery) -> DatasetsPage:
    """List the datasets in the bucket, by key. Other objects below ``datasets/`` are left out."""
    objects, next_after = stored.listed(after=query.after, limit=query.limit)  # 503
    named = {item: name for item in objects if (name := _name_of(item.key)) is not None}
    counts = queries.count_jobs_of_datasets(set(named.values()))  # 503
    return DatasetsPage(
        [
            Dataset(name, item.key, item.size_bytes, item.etag, item.modified_at, counts[name])
            for item, name in named.items()
        ],
        next_after,
    )


@route("GET", "/v1/datasets/{name}", access=READ)
def get_dataset(_: Request, name: str) -> DatasetDetails:
    """Return one dataset, as it is in the bucket now, and the versions that its jobs use."""
    name = _usable_name(name)  # 422
    item = _stored(name)  # 404, 503
    versions = [DatasetVersion(*version) for version in queries.versions_of_dataset(name)]  # 503
    jobs = sum(version.jobs for version in versions)
    return DatasetDetails(name, item.key, item.size_bytes, item.etag, item.modified_at, jobs, versions)


@route("DELETE", "/v1/datasets/{name}", access=WRITE, statuses=(204,))
def delete_dataset(_: Request, name: str) -> Response:
    """Delete a dataset that no open job uses. The jobs that used it keep all their objects.

    A job that is created during the deletion fails with ``dataset_invalid``, as with any missing dataset.
    """
    name = _usable_name(name)  # 422
    item = _stored(name)  # 404, 503
    jobs = queries.open_jobs_of_dataset(name, limit=_NAMED + 1)  # 503
    if jobs:
        named = ", ".join(jobs[:_NAMED]) + (", …" if len(jobs) > _NAMED else "")
        raise InUse(f"open jobs use this dataset: {named}; cancel them, or wait for their end", jobs=jobs[:_NAMED])
    stored.delete(item.key)  # 503
    log(logging.INFO, "the dataset is deleted", dataset_id=name, etag=item.etag)
    return empty(204)


def _stored(name: str) -> StoredDataset:
    # Some systems name files in the decomposed form, and upload them as they are.
    keys = dict.fromkeys(storage.dataset_key(unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    item = next(filter(None, map(stored.stored_dataset, keys)), None)  # 503
    if item is None:
        raise NotFound(f"there is no dataset {name!r} in the bucket")
    return item


def _name_of(key: str) -> str | None:
    try:
        return notifications.dataset_id(key)
    except Unusable:
        return None


@route("POST", "/v1/datasets/{name}/uploads", access=WRITE, statuses=(201,))
def create_upload(request: Request, name: str, body: NewUpload) -> UploadLinks | Response:
    """Return links for uploading a dataset. Metadata sets the fields of its job; ``job: none`` means no job."""
    name, metadata = _usable_name(name), _usable_metadata(name, body.metadata, request.subject)  # 422
    limit = settings().upload_limit_bytes
    if body.bytes > limit:
        raise unusable_field("bytes", f"a dataset may have {limit:,} bytes (UPLOAD_LIMIT_BYTES)")
    key = storage.dataset_key(name)
    expires_at, headers = _expiry(), stored.headers_of(metadata)
    if body.bytes <= stored.PART_BYTES:
        link = stored.put_link(key, body.bytes, metadata)
        return reply(UploadLinks(None, key, stored.PART_BYTES, [link], headers, expires_at), 201)
    upload = stored.begin(key, body.bytes, metadata)  # 503
    links = stored.part_links(key, upload)
    response = UploadLinks(
        upload.token, key, upload.part_bytes, links.urls, {}, expires_at, links.complete_url, links.abort_url
    )
    return reply(response, 201, Location=f"{request.path}/{upload.token}")


@route("GET", "/v1/datasets/{name}/uploads/{upload_id}", access=WRITE)
def get_upload(_: Request, name: str, upload_id: str) -> StartedUpload:
    """Return the parts of an unfinished upload that the storage has, and new links for all, to resume it."""
    upload, key = stored.Upload.of_token(upload_id), storage.dataset_key(_usable_name(name))  # 404, 422
    parts = stored.stored_parts(key, upload)  # 404, 503
    links = stored.part_links(key, upload)
    return StartedUpload(
        upload_id,
        key,
        upload.size_bytes,
        upload.part_bytes,
        parts,
        links.urls,
        links.complete_url,
        links.abort_url,
        _expiry(),
    )


def _usable_name(name: str) -> str:
    normalised = names.normalised(name)
    if not names.is_name(normalised):
        raise unusable_field("name", f"use {names.NAME_RULES}")
    return normalised


def _usable_metadata(name: str, metadata: dict[str, str], subject: str) -> dict[str, str]:
    """Return the metadata, with the job's owner if there will be a job. Raises Unusable if it cannot become a job."""
    makes_job = not specs.is_without_job(metadata)
    complete = {**metadata, **({"stoker-owner": subject} if makes_job and subject else {})}
    if sum(len(key) + len(value) for key, value in stored.encoded(complete).items()) > stored.METADATA_LIMIT_BYTES:
        raise unusable_field("metadata", f"storages take at most {stored.METADATA_LIMIT_BYTES:,} bytes of metadata")
    if makes_job:
        specs.from_upload(name, metadata)
    return complete


def _expiry() -> datetime:
    return tokens.now() + timedelta(seconds=storage.LINK_SECONDS)


datasets = function("datasets", list_datasets, get_dataset, delete_dataset, create_upload, get_upload)

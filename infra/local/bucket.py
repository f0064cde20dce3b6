"""Access to the local stack's bucket with its S3 credentials, as a data team has it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from client.home import read_environment

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def exists() -> bool:
    """Return whether the bucket exists and accepts the credentials."""
    try:
        _client().head_bucket(Bucket=read_environment()["STORAGE_BUCKET"])
    except (BotoCoreError, ClientError):
        return False
    return True


def upload(path: Path, key: str, metadata: Mapping[str, str]) -> None:
    """Put a file into the bucket, with its ``x-amz-meta-…``.

    Raises:
        OSError: the storage is unavailable, or refuses the upload.
    """
    try:
        _client().upload_file(
            str(path), read_environment()["STORAGE_BUCKET"], key, ExtraArgs={"Metadata": dict(metadata)}
        )
    except (BotoCoreError, ClientError, boto3.exceptions.S3UploadFailedError) as error:
        raise OSError(f"the upload failed: {error}") from error


def objects(prefix: str) -> Iterator[tuple[str, int, datetime]]:
    """Yield key, bytes and time of each object below a prefix. Raises: OSError: the storage is unavailable."""
    pages = (
        _client().get_paginator("list_objects_v2").paginate(Bucket=read_environment()["STORAGE_BUCKET"], Prefix=prefix)
    )
    try:
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"], item["Size"], item["LastModified"]
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"the storage cannot be read: {error}") from error


def _client() -> "S3Client":
    variables = read_environment()
    return boto3.client(
        "s3",
        endpoint_url=variables["MINIO_ENDPOINT"],
        aws_access_key_id=variables["MINIO_ACCESS_KEY"],
        aws_secret_access_key=variables["MINIO_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, connect_timeout=3, retries={"max_attempts": 2}),
    )

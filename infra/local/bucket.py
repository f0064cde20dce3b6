"""The local stack's bucket, as a data team sees it: an S3 client with keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from client.home import read_environment

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


def exists() -> bool:
    """Say whether the bucket is there and takes our keys."""
    try:
        _client().head_bucket(Bucket=read_environment()["STORAGE_BUCKET"])
    except (BotoCoreError, ClientError):
        return False
    return True


def upload(path: Path, key: str, metadata: Mapping[str, str]) -> None:
    """Put a file into the bucket, with its ``x-amz-meta-…``.

    Raises:
        OSError: the storage is away, or refuses it.
    """
    try:
        _client().upload_file(
            str(path), read_environment()["STORAGE_BUCKET"], key, ExtraArgs={"Metadata": dict(metadata)}
        )
    except (BotoCoreError, ClientError, boto3.exceptions.S3UploadFailedError) as error:
        raise OSError(f"the upload failed: {error}") from error


def _client() -> "S3Client":
    known = read_environment()
    return boto3.client(
        "s3",
        endpoint_url=known["MINIO_ENDPOINT"],
        aws_access_key_id=known["MINIO_ACCESS_KEY"],
        aws_secret_access_key=known["MINIO_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, connect_timeout=3, retries={"max_attempts": 2}),
    )

"""Serve an empty bucket over S3, until standard input closes; the first line of output is its URL."""

from __future__ import annotations

import logging
import sys

BUCKET = "benchmark"
KEY, SECRET, REGION = "made-up-key", "made-up-secret", "us-east-1"


def main() -> None:
    """Serve, and print the URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.disable(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    ).create_bucket(Bucket=BUCKET)
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()

"""The exceptions: pickling, and the tree in the docstring of their module."""

from __future__ import annotations

import pickle

from airflow_provider_contensis import exceptions as errors


def test_exceptions_survive_pickling() -> None:
    for error in (
        errors.RateLimitedError("slow", status_code=429, retry_after=7, data=[1]),
        errors.IncompleteReadError("short", expected=2, found=1),
        errors.AuthenticationError("no", status_code=400, error="invalid_client"),
        errors.ConfigurationError("wrong"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_docstring_draws_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""

    def descendants(kind: type[Exception]) -> list[type[Exception]]:
        return [each for child in kind.__subclasses__() for each in (child, *descendants(child))]

    for kind in descendants(errors.ContensisError):
        assert f"── {kind.__name__} " in drawn, kind

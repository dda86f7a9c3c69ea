"""The exceptions: their tree, and their way to another process."""

from __future__ import annotations

import pickle

from airflow_provider_contensis import exceptions as errors


def test_exceptions_survive_the_trip_to_another_process() -> None:
    for error in (
        errors.RateLimitedError("slow", status_code=429, retry_after=7, data=[1]),
        errors.IncompleteReadError("short", expected=2, found=1),
        errors.AuthenticationError("no", status_code=400, error="invalid_client"),
        errors.ConfigurationError("wrong"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_the_tree_of_exceptions_is_the_one_that_is_drawn() -> None:
    drawn = errors.__doc__ or ""

    def descendants(kind: type[Exception]) -> list[type[Exception]]:
        return [each for child in kind.__subclasses__() for each in (child, *descendants(child))]

    for kind in descendants(errors.ContensisError):
        assert f"── {kind.__name__} " in drawn, kind

"""Requests made from the description of the interface itself: none may fail the server or break its own description."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest


@pytest.mark.parametrize("examples", [12, pytest.param(40, marks=pytest.mark.long)])  # of each route
def test_requests_from_the_schema(
    examples: int, serving: Callable[..., tuple[subprocess.Popen[str], int]], exported: Path
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: the extra dev")
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    process, port = serving("--exported", exported, "--model", "mobilenext_x0_35.digits", "--timeout", 300)
    address = f"http://127.0.0.1:{port}"
    statuses: dict[str, set[int]] = {}
    quiet = settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )

    def ask(case: schemathesis.Case) -> None:
        response = case.call(base_url=address, timeout=300)
        assert response.status_code < 500, case.as_curl_command()
        # Any bytes are a valid body to the schema, and few are an image.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        statuses.setdefault(case.path, set()).add(response.status_code)
        assert b"Traceback" not in response.content
        assert bytes(Path.cwd()) not in response.content

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries below the fuzzer
        schema = schemathesis.openapi.from_dict(httpx.get(f"{address}/openapi.json", timeout=300).json())
        operations = [each.ok() for each in schema.get_all_operations()]
        for operation in operations:
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

                @quiet
                @given(case=operation.as_strategy(generation_mode=mode))
                def fuzz(case: schemathesis.Case) -> None:
                    ask(case)

                try:
                    fuzz()
                except Unsatisfiable:  # a route that takes nothing cannot be given something wrong
                    assert operation.method == "get"
    assert set(statuses) >= {"/v1/predict", "/v1/explain", "/v1/models", "/healthz", "/readyz", "/metrics"}
    assert 422 in statuses["/v1/predict"]
    assert process.poll() is None

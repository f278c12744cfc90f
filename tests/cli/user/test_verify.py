"""`discue verify`: reasons and mistakes, each with the sentence that a person sees."""

import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from discue.cli.exit_codes import FAILED, FINE
from discue.crypto.signing import decode_secret, sign
from tests.cli.commands import run

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
OTHER = "whsec_" + b64encode(b"another secret of 24 bytes").decode()
BODY = b'{"order":17,"note":"\xc3\xa4"}'
OLD = 4_000
"""Seconds that are more than the tolerance."""


def headers(body: bytes = BODY, *, secret: str = SECRET, age: int = 0, **changed: str) -> list[str]:
    at = int(time.time()) - age
    signed = sign((decode_secret(secret),), "msg_1", at, body)
    found = {"webhook_id": "msg_1", "webhook_timestamp": str(at), "webhook_signature": signed, **changed}
    return [f"--header={name.replace('_', '-')}:{value.format(at=at)}" for name, value in found.items() if value]


def verify(folder: Path, body: bytes, arguments: list[str], *secrets: str) -> tuple[int, str]:
    (folder / "body").write_bytes(body)
    given = [f"--secret={each}" for each in secrets or (SECRET,)]
    result = run(folder, "verify", "@body", *arguments, *given)
    return result.returncode, result.stdout + result.stderr


def test_genuine_request_names_its_secret(tmp_path: Path) -> None:
    assert verify(tmp_path, BODY, headers()) == (FINE, "Genuine: signed with the secret.\n")
    assert verify(tmp_path, BODY, headers(), OTHER, SECRET) == (FINE, "Genuine: signed with secret 2 of 2.\n")


@pytest.mark.parametrize(
    ("body", "signed", "message"),
    [
        (BODY + b"\n", {}, "has a line break at its end that was not sent"),
        (BODY, {"body": BODY + b"\n"}, "lacks the line break at its end"),
        (b"a\r\nb", {"body": b"a\nb"}, "Line breaks of the body were changed to CR LF"),
        (b"\xef\xbb\xbf" + BODY, {}, "begins with a byte order mark"),
        (b'{"order": 17, "note": "\\u00e4"}', {}, "was parsed and written again as JSON"),
        (b'"text"', {"body": b"text"}, "was written as a JSON string"),
        (BODY, {"webhook_timestamp": "{at}000"}, "is in milliseconds"),
        (BODY, {"age": OLD}, "Apart from the time, it is genuine."),
        (BODY, {"age": OLD, "secret": OTHER}, "No signature matches"),
        (BODY, {"webhook_signature": ""}, "Missing: webhook-signature. Give each with --header."),
        (BODY, {"webhook_id": "", "svix_id": "x"}, "Headers svix-… are those of another sender"),
        (BODY, {"webhook_signature": "v2,abc"}, "No signature is of version v1"),
        (BODY, {"secret": OTHER}, "The secret is not that of the listener that sent this"),
    ],
    ids=lambda given: given[:40] if isinstance(given, str) else "",
)
def test_mistake_is_found_and_explained(tmp_path: Path, body: bytes, signed: dict[str, Any], message: str) -> None:
    code, shown = verify(tmp_path, body, headers(**signed))

    assert code == FAILED
    assert message in shown
    assert SECRET not in shown


def test_plus_that_became_a_space_is_explained(tmp_path: Path) -> None:
    bodies = (b"%d" % number for number in range(1_000))
    body, given = next((body, given) for body in bodies if "+" in "".join(given := headers(body)))
    spaced = [each.replace("+", " ") for each in given]

    assert "A + of webhook-signature has become a space" in verify(tmp_path, body, spaced)[1]


@pytest.mark.parametrize(
    ("given", "signed_with", "message"),
    [
        ("whsec_" + SECRET, SECRET, "has its prefix whsec_ twice"),
        (f"'{SECRET}'", SECRET, "has quotation marks or spaces around it"),
        (SECRET, "whsec_" + b64encode(SECRET.removeprefix("whsec_").encode()).decode(), "without decoding its base64"),
    ],
    ids=["prefix", "quoted", "text"],
)
def test_mistake_in_the_secret_is_explained(tmp_path: Path, given: str, signed_with: str, message: str) -> None:
    code, shown = verify(tmp_path, BODY, headers(secret=signed_with), given)

    assert code == FAILED
    assert message in shown


def test_name_of_a_file_without_its_sign_is_explained(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    result = run(tmp_path, "verify", "body", *headers(), f"--secret={SECRET}")

    assert result.returncode == FAILED
    assert "there is a file of that name: did you mean @body?" in result.stdout


def test_result_in_json_has_a_reason_for_programs(tmp_path: Path) -> None:
    _, shown = verify(tmp_path, BODY, [*headers(secret=OTHER), "--json"])
    found = json.loads(shown)

    assert (found["genuine"], found["reason"]) == (False, "no_match")
    assert verify(tmp_path, BODY, [*headers(age=OLD), "--ignore-time"])[0] == FINE


def test_missing_secret_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISCUE_WEBHOOK_SECRET", raising=False)
    result = run(tmp_path, "verify", "{}", "--header", "a: b")

    assert result.returncode == 2
    assert "The secret is missing: give --secret, or set DISCUE_WEBHOOK_SECRET." in result.stderr

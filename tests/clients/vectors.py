"""Requests with wrong signatures, and secrets that cannot be used: every client must say the same about them."""

from base64 import b64decode, b64encode

from tests.clients.python.signed import KEY, MESSAGE_ID, NOW, SECRET, v1, v1a

BODY = b'{"order": 17}'
OTHER_SECRET = "whsec_" + b64encode(b"x" * 24).decode()


def _with_bits_after_its_end(signature: str) -> str:
    """Return another base64 text of the same bytes: the last letter has four bits that decoders ignore."""
    last = signature[-3]
    changed = chr(ord(last) + 1)
    assert b64decode(signature[4:-3] + changed + "==") == b64decode(signature[4:])
    return signature[:-3] + changed + "=="


MALFORMED: dict[str, dict[str, str]] = {
    "id with a space": {"webhook-id": "a b"},
    "id with a dot": {"webhook-id": "a.b"},
    "id with a line break": {"webhook-id": "a\nb"},
    "id with a NUL": {"webhook-id": "a\0"},
    "id that is not ASCII": {"webhook-id": "ä"},
    "long id": {"webhook-id": "a" * 257},
    "repeated id": {"WEBHOOK-ID": MESSAGE_ID},
    "timestamp of words": {"webhook-timestamp": "now"},
    "timestamp with a fraction": {"webhook-timestamp": f"{NOW}.0"},
    "timestamp with an exponent": {"webhook-timestamp": "18e8"},
    "timestamp with a sign": {"webhook-timestamp": f"+{NOW}"},
    "negative timestamp": {"webhook-timestamp": "-1"},
    "timestamp with a space": {"webhook-timestamp": f"{NOW} "},
    "timestamp with a line break": {"webhook-timestamp": f"{NOW}\n"},
    "timestamp with a leading zero": {"webhook-timestamp": f"0{NOW}"},
    "timestamp with underscores": {"webhook-timestamp": "1_800_000_000"},
    "timestamp in other digits": {"webhook-timestamp": "١٨٠٠٠٠٠٠٠٠"},
    "timestamp of infinity": {"webhook-timestamp": "inf"},
    "timestamp that is no number": {"webhook-timestamp": "nan"},
    "huge timestamp": {"webhook-timestamp": "9" * 5_000},
    "signature without a version": {"webhook-signature": v1(BODY).removeprefix("v1,")},
    "signature of a version alone": {"webhook-signature": "v1,"},
    "signature of a comma": {"webhook-signature": ","},
    "signature of spaces": {"webhook-signature": "  "},
    "signature and two spaces": {"webhook-signature": f"{v1(BODY)}  {v1(BODY)}"},
    "signature and a space at the end": {"webhook-signature": f"{v1(BODY)} "},
    "signature that is not ASCII": {"webhook-signature": "v1,ä"},
    "too many signatures": {"webhook-signature": " ".join(["v1,AAAA"] * 16 + [v1(BODY)])},
    "too long a signature": {"webhook-signature": f"v1,{'A' * 5_000} {v1(BODY)}"},
}

UNMATCHED: dict[str, str] = {
    "empty base64": "v1,=",
    "no base64": "v1,!!!!",
    "other base64": "v1,AAAA",
    "cut off": v1(BODY)[:-1],
    "without padding": v1(BODY).rstrip("="),
    "in upper case": "v1," + v1(BODY).removeprefix("v1,").upper(),
    "with a line break": v1(BODY) + "\n",
    "with a tab between": f"v1,AAAA\t{v1(BODY)}",
    "version in upper case": "v1a," + v1(BODY).removeprefix("v1,"),
    "quoted": v1(BODY).replace(",", ',"') + '"',
    "of another body": v1(b"{}"),
    "of another time": v1(BODY, timestamp=NOW - 1),
    "of another id": v1(BODY, message_id="another"),
    "with another key": v1(BODY, b"z" * 32),
    "with an empty key": v1(BODY, b""),
    "of nothing": v1(b""),
    "v1 as v1a": v1(BODY).replace("v1,", "v1a,"),
    "v1a as v1": v1a(BODY).replace("v1a,", "v1,"),
    "v1a of zeros": "v1a," + b64encode(bytes(64)).decode(),
    "v1a too short": "v1a," + b64encode(bytes(63)).decode(),
    "v1a of another body": v1a(b"{}"),
    "v1a with bits after its end": _with_bits_after_its_end(v1a(BODY)),
}

UNUSABLE_SECRETS: list[tuple[str, str]] = [
    ("", "24 to 64 bytes"),
    ("whsec_", "24 to 64 bytes"),
    ("whsec_c2hvcnQ=", "24 to 64 bytes"),
    ("whsec_" + "A" * 100, "24 to 64 bytes"),
    ("whsec_!!!!", "whsec_ and base64"),
    ("whsec_" + SECRET, "whsec_ and base64"),
    ("whsk_" + b64encode(KEY).decode(), "private key"),
    ("whpk_c2hvcnQ=", "32 bytes"),
    ("whpk_ä", "whpk_ and base64"),
]
"""Each with a part of the error that names it."""

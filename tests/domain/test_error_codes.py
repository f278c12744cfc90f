import ast
import re
from functools import cache
from pathlib import Path

import discue
from discue.api.openapi.document import document_of
from discue.auth.control_plane_cache import KeyRejected
from discue.domain import errors
from discue.domain.errors import REASONS, DiscueError
from discue.product import ROUTES

SOURCE = Path(discue.__file__).parent
KINDS = {
    kind.__name__: kind
    for kind in (*vars(errors).values(), KeyRejected)
    if isinstance(kind, type) and issubclass(kind, DiscueError)
}
STATUS_OF_FUNCTIONS = {
    "invalid": 422,
    "malformed": 400,
    "BadRequest": 400,
    "Conflict": 409,
    "Unprocessable": 422,
    "missing_field": 400,
    "require_none": 422,
    "decode_strictly": 422,
}
NAMES_A_CODE = re.compile(r"\bcode *[:=]")
WITHOUT_OPERATION = {
    "method_not_allowed",
    # Of `/in/{source_id}`, which is outside of the API.
    *("signature_missing", "signature_stale", "signature_wrong"),
}


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Return the nodes of all modules that can name a code, each with the path of its module."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    return [
        (str(path.relative_to(SOURCE)), node)
        for path, text in texts.items()
        if NAMES_A_CODE.search(text)
        for node in ast.walk(ast.parse(text))
    ]


def texts_in(node: ast.expr) -> list[str]:
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def codes_given(node: ast.AST) -> list[str]:
    """Return the codes in an argument, an assignment or a default that is called `code`."""
    if isinstance(node, ast.keyword) and node.arg == "code":
        return texts_in(node.value)
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        return texts_in(node.value) if "code" in names else []
    if isinstance(node, ast.arguments):
        defaults = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        return [text for given, value in defaults if given.arg == "code" and value for text in texts_in(value)]
    return []


def test_every_code_that_is_raised_is_in_the_table_and_every_code_of_the_table_is_raised() -> None:
    raised = {code for _, node in nodes() for code in codes_given(node)} - {""}

    assert raised & REASONS.keys() == REASONS.keys()
    assert {code for kind in KINDS.values() if (code := vars(kind).get("code"))} <= REASONS.keys()


def test_code_and_class_of_an_error_have_the_same_status() -> None:
    calls = [(path, node) for path, node in nodes() if isinstance(node, ast.Call)]
    for path, call in calls:
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        status = STATUS_OF_FUNCTIONS.get(name)
        if status is None and name in KINDS and "code" in vars(KINDS[name]) and name != "DiscueError":
            status = REASONS[KINDS[name].code].status
        codes = [code for given in call.keywords for code in codes_given(given) if code]
        if status is not None:
            assert {REASONS[code].status for code in codes} <= {status}, f"{path}:{call.lineno}"


def test_every_code_belongs_to_an_operation() -> None:
    document = document_of(ROUTES, "/v1")
    listed = {
        code
        for item in document["paths"].values()
        for operation in item.values()
        for codes in operation["x-error-codes"].values()
        for code in codes
    }

    assert listed == REASONS.keys() - WITHOUT_OPERATION


def test_meanings_and_remedies_are_sentences() -> None:
    assert all(reason.meaning.endswith(".") and reason.remedy.endswith(".") for reason in REASONS.values())

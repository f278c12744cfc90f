"""The fields of schedules: see `field_rules`."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from discue.api.openapi.delivery_rules import RETRY_SENT
from discue.api.openapi.rule import INSTANT, Rule
from discue.control.schedules import EXPIRES_IN_SECONDS, LARGEST_DATA_BYTES, MISSED_RUNS
from discue.domain.schedule import CATCH_UP, MACROS, MAX_CRON_CHARACTERS
from discue.store.schedules import Reason

EXAMPLE_ID: Final = "0VbuJFSy00Kp3Vn6tDxQm"

_ID = {"pattern": "^[0-9A-Za-z]{21}$"}
_CRON_TEXT = (
    "When it runs: five fields (minute, hour, day of the month, month, day of the week) separated by blanks, or one of "
    f"{', '.join(MACROS)}."
)
_CRON: dict[str, Any] = {"maxLength": MAX_CRON_CHARACTERS, "pattern": "^[ \\t0-9A-Za-z*,/#@-]+$"}
_CRON_EXAMPLE = "0 9 * * MON-FRI"
_ZONE_TEXT = "The time zone that the fields of `cron` are of, by its name in the database of the IANA. UTC without one."
_ZONE = {"pattern": "^[A-Za-z0-9_+/-]+$", "maxLength": 64}
_DATA_TEXT = (
    "What each message holds: a string, or any other JSON value, which is kept as its text. "
    f"At most {LARGEST_DATA_BYTES:,} bytes."
)
_MISSED_TEXT = (
    "What becomes of runs whose time passes while no worker is there: `skip` (the default) leaves them out, `catch_up` "
    "publishes the newest `catch_up_limit` of them."
)
_LIMIT_TEXT = "How many missed runs are caught up on at most: the newest ones. 10 without a word about it."
_LIMIT = {"minimum": CATCH_UP.start, "maximum": CATCH_UP.stop - 1}
_STARTS_TEXT = "The first instant at which it may run, in milliseconds since the epoch, at most ten years ahead."
_ENDS_TEXT = "An instant in milliseconds since the epoch: it runs before that, and not at it or later."
_EXPIRES_TEXT = "For how many seconds each message is worth delivering: what a listener has not got by then, it misses."
_EXPIRES = {"minimum": EXPIRES_IN_SECONDS.start, "maximum": EXPIRES_IN_SECONDS.stop - 1}

RULES: Final[Mapping[str, Rule]] = {
    "schedule_id": Rule("The id of the schedule.", EXAMPLE_ID, _ID),
    "Schedule.schedule": Rule("The schedule.", None),
    "schedules": Rule("The schedules, newest first.", None),
    "ScheduleShown.id": Rule("The id, given at creation.", EXAMPLE_ID, _ID),
    "ScheduleBody.alias": Rule(
        "The name, unique among the schedules of the queue. Its messages are called so, too.",
        "daily-report",
        {"pattern": "^[A-Za-z0-9._/-]{4,64}$"},
    ),
    "cron": Rule(_CRON_TEXT, _CRON_EXAMPLE, _CRON),
    "time_zone": Rule(_ZONE_TEXT, "Europe/Zurich", _ZONE),
    "ScheduleBody.data": Rule(_DATA_TEXT, {"report": "daily"}),
    "ScheduleBody.status": Rule(
        "Whether it runs. Enabled again, it runs from then on: what it was disabled for is not caught up on.",
        "enabled",
        {"enum": ["enabled", "disabled"]},
    ),
    "ScheduleShown.status": Rule("Whether it runs.", "enabled", {"enum": ["enabled", "disabled"]}),
    "missed_runs": Rule(_MISSED_TEXT, "skip", {"enum": list(MISSED_RUNS)}),
    "catch_up_limit": Rule(_LIMIT_TEXT, 10, _LIMIT),
    "starts_at": Rule(_STARTS_TEXT, 1_795_536_280_000, INSTANT),
    "ends_at": Rule(_ENDS_TEXT, 1_893_456_000_000, INSTANT),
    "ScheduleBody.key": Rule(
        "The key of each message: in an ordered queue, they come one after the other.",
        "reports",
        {"minLength": 1, "maxLength": 255},
    ),
    "ScheduleShown.key": Rule("The key of each message.", "reports"),
    "ScheduleBody.retry": Rule(
        "When a failed delivery of its messages is tried again. What is not said holds as it does without.",
        {"schedule": [10, 60, 600]},
        RETRY_SENT,
    ),
    "expires_in": Rule(_EXPIRES_TEXT, 3_600, _EXPIRES),
    "next_runs": Rule(
        "The next five runs, in milliseconds since the epoch; none of one that is disabled or has ended.",
        [1_795_536_300_000],
        {"maxItems": 5, "items": {"type": "integer", **INSTANT}},
    ),
    "last_run": Rule("The run before the first of these.", None),
    "scheduled_at": Rule("When it was to be, in milliseconds since the epoch.", 1_795_536_240_000, INSTANT),
    "ran_at": Rule("When it was, in milliseconds since the epoch.", 1_795_536_240_004, INSTANT),
    "RunShown.state": Rule("What it came to.", "published", {"enum": ["published", "skipped"]}),
    "RunShown.message_id": Rule("The id of its message.", "0VbuJFW500I0yWwoGXXf6", _ID),
    "RunShown.reason": Rule("Why it published nothing.", "schema", {"enum": list(get_args(Reason))}),
}

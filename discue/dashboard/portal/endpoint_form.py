"""The form of an endpoint: the part of a listener that its customer decides."""

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, UnsetType

from discue.control.listener_fields import ListenerFields
from discue.control.listener_options import OptionFields, RateFields
from discue.control.listeners import ListenerDetails
from discue.dashboard.fields import decimal_of
from discue.dashboard.portal.route import of_portal
from discue.dashboard.visit import Visit

_NOTHING: Final[Mapping[str, str]] = {}


def form_of(details: ListenerDetails) -> Mapping[str, str]:
    """Return the fields of the form for an endpoint as it is."""
    listener = details.listener
    rate = listener.options.rate_limit
    return {
        "notify_url": listener.notify_url,
        "description": listener.options.description,
        "per_second": "" if rate is None else f"{rate.per_second:g}",
    }


def fields_of_form(visit: Visit, shown: Mapping[str, str] = _NOTHING) -> ListenerFields:
    """Return the change that a form asks for; `shown` has the fields as they were. Raises Unprocessable."""
    form = {name: value.strip() for name, value in visit.form.items()}
    rate: RateFields | UnsetType | None = UNSET
    text = form.get("per_second", "")
    # Unless it was changed, the limit stays as the organization has set it, with its burst.
    if of_portal(visit).details.may("limit") and text != shown.get("per_second", ""):
        per_second = decimal_of(text, "rate_limit/per_second")
        rate = None if per_second is None else RateFields(per_second)
    options = OptionFields(rate_limit=rate, description=form.get("description", UNSET))
    return ListenerFields(notify_url=form.get("notify_url", ""), options=options)

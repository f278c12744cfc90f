"""Who calls, and whether they may now: the same for every request, whatever it asks for."""

from discue.api.request import Request
from discue.api.resources.limits import rate_of
from discue.api.services import Services
from discue.auth.client_ip import ClientIpResolver, subject_of
from discue.auth.rate_limiter import address_caller
from discue.domain.errors import DiscueError, LockedOut, Unauthorized, Unavailable
from discue.domain.rate import RateLimitKey

_KEY = "x-api-key"
_NEVER_REFUSED = frozenset(f"{version}/health/{what}" for version in ("", "/v1") for what in ("live", "ready"))


class Admission:
    """Finds out who calls. Requests of which nothing is known yet go through here, those that lead nowhere too."""

    def __init__(self, services: Services) -> None:
        control = services.control
        self._rates = services.rates
        self._settings = control.settings
        self._readiness = services.readiness
        self._address_of = ClientIpResolver(control.settings.trusted_proxies).of
        self._authenticate = services.authenticator.authenticate

    async def admit(self, request: Request, *, needs_key: bool) -> None:
        """Says in the request whose it is.

        Raises Unauthorized, Forbidden and Locked where a key is needed, Unavailable while nothing is served, and
        TooManyRequests.
        """
        request.address = self._address_of(request.scope.client, request.headers)
        refusal = await self._refusal(request) if needs_key else None
        await self._count(request)
        if refusal is not None:
            raise refusal

    async def admit_unrouted(self, request: Request) -> None:
        """The same for a request that leads nowhere: its key changes nothing of the answer, but that it is locked out.

        Raises LockedOut and TooManyRequests.
        """
        request.address = self._address_of(request.scope.client, request.headers)
        presents_key = len(request.headers.get_all(_KEY)) == 1
        refusal = await self._refusal(request) if presents_key else None
        await self._count(request)
        if isinstance(refusal, LockedOut):
            raise refusal

    def rate_headers(self, request: Request) -> list[tuple[str, str]]:
        """What every response says of its caller's minute; of one that failed before it was counted, the address'."""
        told = request.allowance or self._rates.look(self._address_caller(request))
        return [
            ("x-ratelimit-limit", str(told.limit)),
            ("x-ratelimit-remaining", str(told.remaining)),
            ("x-ratelimit-reset", str(told.reset_at)),
        ]

    async def _count(self, request: Request) -> None:
        """Raises TooManyRequests. Whether the service is well is always told, and while it is not, nothing waits."""
        record, rates = request.record, self._rates
        if record is None:
            caller = self._address_caller(request)
        else:
            caller = rate_of(record.organization, record.principal, self._settings)
        if self._readiness.phase != "serving" or request.scope.path in _NEVER_REFUSED:
            request.allowance = rates.count(caller)
            return
        request.allowance = allowance = rates.take_now(caller) or await rates.take(caller)
        if allowance.refused:
            raise rates.refusal(allowance)

    def _address_caller(self, request: Request) -> RateLimitKey:
        return address_caller(subject_of(request.address), self._settings.address_rate_limit)

    async def _refusal(self, request: Request) -> DiscueError | None:
        """Why whoever calls is not let in. It is not raised yet: such a request counts like any other."""
        try:
            await self._identify(request)
        except DiscueError as error:
            return error
        return None

    async def _identify(self, request: Request) -> None:
        presented: str = request.headers.get(_KEY, "")
        phase = self._readiness.phase
        if phase != "serving":
            raise Unavailable(f"The service is {phase}. Try again soon.")
        if not presented:
            raise Unauthorized
        record = await self._authenticate(presented, request.address)
        request.record, request.principal = record, record.principal

import pytest

from discue.domain.errors import QuotaExceeded
from discue.domain.quotas import NO_QUOTAS, PublishUsage, Quotas, check, check_publishing, fits, is_near, quotas_of


def test_own_quota_overrides_the_default() -> None:
    defaults = Quotas(queues=5, listeners=6)
    assert quotas_of({"quota_queues": 0, "rate_limit": 7}, defaults) == Quotas(queues=0, listeners=6)
    assert quotas_of({}, NO_QUOTAS) == NO_QUOTAS


def test_only_two_quotas_limit_publishing() -> None:
    assert Quotas(messages_a_day=0).limit_publishing
    assert Quotas(bytes_stored=0).limit_publishing
    assert not Quotas(queues=1, listeners=1).limit_publishing


def test_quota_can_be_used_up_but_not_exceeded() -> None:
    check("queues", 3, 2)
    check("queues", None, 10**9)
    with pytest.raises(QuotaExceeded, match="Quota exceeded: 3 of 3 queues are in use"):
        check("queues", 3, 3)


@pytest.mark.parametrize(
    ("used", "more", "fit"),
    [
        (PublishUsage(9, 0), PublishUsage(1, 1), True),
        (PublishUsage(9, 0), PublishUsage(2, 1), False),
        (PublishUsage(0, 99), PublishUsage(1, 1), True),
        (PublishUsage(0, 99), PublishUsage(1, 2), False),
    ],
)
def test_messages_fit_if_both_quotas_have_room(used: PublishUsage, more: PublishUsage, *, fit: bool) -> None:
    quotas = Quotas(messages_a_day=10, bytes_stored=100)
    assert fits(quotas, used, more) is fit
    if fit:
        check_publishing(quotas, used, more)
    else:
        with pytest.raises(QuotaExceeded):
            check_publishing(quotas, used, more)


def test_usage_is_added_by_messages_and_bytes() -> None:
    assert PublishUsage() == PublishUsage(0, 0)
    assert PublishUsage(1, 10) + PublishUsage(2, 30) == PublishUsage(3, 40)


def test_quota_is_near_from_nine_tenths_on() -> None:
    quotas = Quotas(messages_a_day=100)
    assert not is_near(quotas, PublishUsage(88, 10**9), PublishUsage(1, 1), 1)
    assert is_near(quotas, PublishUsage(89, 0), PublishUsage(1, 1), 1)
    assert is_near(Quotas(bytes_stored=0), PublishUsage(), PublishUsage(1, 0), 1)


def test_usage_is_assumed_for_every_worker() -> None:
    quotas = Quotas(messages_a_day=100, bytes_stored=1_000)
    assert not is_near(quotas, PublishUsage(60, 0), PublishUsage(9, 1), 3)
    assert is_near(quotas, PublishUsage(60, 0), PublishUsage(10, 1), 3)
    assert is_near(quotas, PublishUsage(0, 0), PublishUsage(1, 300), 3)

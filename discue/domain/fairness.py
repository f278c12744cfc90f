"""How a cap on all requests in flight is shared, so that hanging listeners never take the last places."""


def may_send(cap: int, in_flight: int, organization_in_flight: int, lane_in_flight: int, lane_limit: int) -> bool:
    """Whether a lane may start one more request.

    Dynamic thresholds (Choudhury and Hahne, 1998): an organization may hold at most as much as is free, a
    lane at most what its organization has left of that. An organization alone stops at half of the cap, a
    lane alone at a third. Places that were taken are not called back, so the worst is k organizations that
    come one after another while none of their requests ends: then (cap + 1) / 2^k - 1 places are still free.
    As requests end, k organizations with many such lanes come to about cap / (k + 1) each.
    """
    room = cap - in_flight - organization_in_flight
    return lane_in_flight < lane_limit and lane_in_flight < room

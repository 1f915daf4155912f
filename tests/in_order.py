"""Facts of a subscription in order, for the scripts that measure."""

FACTS = {
    "subscription_id": "3A8-WN7-7TD",
    "activation": {"state": "active"},
    "expires_at": "2099-06-30T12:00:00Z",
    "users": {"active": 120, "licensed": 150},
    "all_users": {"count": 900, "limit": 1000},
    "components": {"count": 10, "limit": 50},
    "sms_credits": 500,
}

grpcurl -plaintext -H "authorization: Bearer $ALICE_TOKEN" -d @ $ADDRESS aqm.coin.v1.CoinService/FetchCoins <<JSON
{
  "target_user_id": "$BOB",
  "coin_category": "COIN_CATEGORY_GOLD",
  "count": 1,
  "request_id": "$(cat /proc/sys/kernel/random/uuid)",
  "allow_lower_categories": true
}
JSON

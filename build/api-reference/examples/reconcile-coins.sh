grpcurl -plaintext -H "authorization: Bearer $BOB_TOKEN" -d @ $ADDRESS aqm.coin.v1.CoinService/ReconcileCoins <<JSON
{"coin_category": "COIN_CATEGORY_GOLD", "key_ids": ["$(cat /proc/sys/kernel/random/uuid)"]}
JSON

grpcurl -plaintext -H "authorization: Bearer $ALICE_TOKEN" -d @ $ADDRESS aqm.coin.v1.CoinService/FetchDeviceCoins <<JSON
{"requests": [{"target_user_id": "$BOB", "coin_category": "COIN_CATEGORY_SILVER", "count": 1}]}
JSON

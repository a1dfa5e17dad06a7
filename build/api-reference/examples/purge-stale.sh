grpcurl -plaintext -H "authorization: Bearer $ADMIN_TOKEN" -d '{"max_age_days": 30}' $ADDRESS aqm.coin.v1.CoinAdminService/PurgeStale

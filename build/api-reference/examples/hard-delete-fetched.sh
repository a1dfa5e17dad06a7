grpcurl -plaintext -H "authorization: Bearer $ADMIN_TOKEN" -d '{"grace_hours": 24}' $ADDRESS aqm.coin.v1.CoinAdminService/HardDeleteFetched

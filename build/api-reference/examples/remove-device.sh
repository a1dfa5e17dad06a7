grpcurl -plaintext -H "authorization: Bearer $BOB_TOKEN" -d @ $ADDRESS aqm.coin.v1.CoinService/RemoveDevice <<JSON
{"device_id": "$(cat /proc/sys/kernel/random/uuid)"}
JSON

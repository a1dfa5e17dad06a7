grpcurl -plaintext -H "authorization: Bearer $BOB_TOKEN" -d @ $ADDRESS aqm.coin.v1.CoinService/UploadCoins <<JSON
{"coins": [{
  "key_id": "$(cat /proc/sys/kernel/random/uuid)",
  "coin_category": "COIN_CATEGORY_BRONZE",
  "public_key": "$(head -c 32 /dev/urandom | base64 -w 0)",
  "signature": "$(head -c 64 /dev/urandom | base64 -w 0)"
}]}
JSON

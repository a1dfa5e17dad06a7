grpcurl -plaintext -H "authorization: Bearer $BOB_TOKEN" $ADDRESS aqm.coin.v1.CoinService/ListDevices

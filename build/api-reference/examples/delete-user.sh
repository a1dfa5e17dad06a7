grpcurl -plaintext -H "authorization: Bearer $ADMIN_TOKEN" -d '{"user_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}' $ADDRESS aqm.coin.v1.CoinAdminService/DeleteUser

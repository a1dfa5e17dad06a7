"""Uploads coins as one user, fetches them as another, and counts what is left.

    clients/python/generate /tmp/aqm-stubs
    export AQM_ADDRESS=127.0.0.1:50051 AQM_OWNER=<uuid>
    export AQM_OWNER_TOKEN=<JWT of that user> AQM_REQUESTER_TOKEN=<JWT of anybody>
    PYTHONPATH=/tmp/aqm-stubs python3 clients/python/example.py

Prints one JSON object. The keys here are random bytes of the right sizes: making real ones is the
business of the minting module.
"""

import json
import os
import random
import time
import uuid

import grpc
from aqm.coin.v1 import coin_pb2, coin_service_pb2, coin_service_pb2_grpc

DEADLINE_SECONDS = 10
# A connection that was refused is tried again soon, not after gRPC's second or two.
RECONNECT = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 5000))
ATTEMPTS, PASSING = 8, (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def call(method, request, user):
    """Sends the same request, and so the same request_id, again while the service is away for a moment."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return method(request, **user)
        except grpc.RpcError as error:
            if error.code() not in PASSING or attempt == ATTEMPTS:
                raise
        time.sleep(random.uniform(0.5, 1) * min(0.1 * 2**attempt, 5))


def mint(category, count):
    """Coins of a category; the sizes come from the options in coin.proto."""
    value = coin_pb2.CoinCategory.DESCRIPTOR.values_by_number[category]
    spec = value.GetOptions().Extensions[coin_pb2.coin_category_spec]
    return [
        coin_pb2.Coin(
            key_id=str(uuid.uuid4()),
            coin_category=category,
            public_key=os.urandom(spec.public_key_size),
            signature=os.urandom(spec.signature_size),
        )
        for _ in range(count)
    ]


def as_user(token):
    """What every call of this user carries. Until its deadline it waits for a connection."""
    return {
        "metadata": (("authorization", f"Bearer {token}"),),
        "timeout": DEADLINE_SECONDS,
        "wait_for_ready": True,
    }


def main():
    owner, owner_id = as_user(os.environ["AQM_OWNER_TOKEN"]), os.environ["AQM_OWNER"]
    requester = as_user(os.environ["AQM_REQUESTER_TOKEN"])
    coins = mint(coin_pb2.COIN_CATEGORY_GOLD, 2) + mint(coin_pb2.COIN_CATEGORY_BRONZE, 3)

    with grpc.insecure_channel(os.environ["AQM_ADDRESS"], options=RECONNECT) as channel:
        service = coin_service_pb2_grpc.CoinServiceStub(channel)

        uploaded = call(service.UploadCoins, coin_service_pb2.UploadCoinsRequest(coins=coins), owner)

        # The request id makes the fetch repeatable: after a lost reply the same call gets the same coins.
        fetch = coin_service_pb2.FetchCoinsRequest(
            target_user_id=owner_id,
            coin_category=coin_pb2.COIN_CATEGORY_GOLD,
            count=3,
            request_id=str(uuid.uuid4()),
            allow_lower_categories=True,
        )
        fetched = call(service.FetchCoins, fetch, requester)
        repeated = call(service.FetchCoins, fetch, requester)

        counted = call(service.GetInventoryCount, coin_service_pb2.GetInventoryCountRequest(), owner)

        try:
            call(service.FetchCoins, coin_service_pb2.FetchCoinsRequest(target_user_id="nobody"), requester)
            refused = None
        except grpc.RpcError as error:
            refused = error.code().name

    print(
        json.dumps(
            {
                "uploaded": uploaded.inserted_count,
                "fetched": [coin_pb2.CoinCategory.Name(coin.coin_category) for coin in fetched.coins],
                "fetched_as_uploaded": list(fetched.coins) == [
                    with_expiry(coin, like) for coin, like in zip(coins, fetched.coins)
                ],
                "repeat_is_the_same": list(repeated.coins) == list(fetched.coins),
                "left": {"gold": counted.available.gold, "bronze": counted.available.bronze},
                "bad_input": refused,
            }
        )
    )


def with_expiry(coin, like):
    """The uploaded coin with the expire_time that the server chose for it."""
    copy = coin_pb2.Coin()
    copy.CopyFrom(coin)
    copy.expire_time.CopyFrom(like.expire_time)
    return copy


if __name__ == "__main__":
    main()

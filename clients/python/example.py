"""Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices.

    clients/python/generate /tmp/aqm-stubs
    export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=<uuid>
    export OWNER_TOKEN=<JWT of that user> REQUESTER_TOKEN=<JWT of another user>
    PYTHONPATH=/tmp/aqm-stubs /usr/bin/python3 clients/python/example.py    # the Python of Debian, which has python3-grpcio

Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task
of the minting module.
"""

import json
import os
import uuid
from pathlib import Path

import grpc
from aqm.coin.v1 import coin_pb2, coin_service_pb2, coin_service_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

GOLD, SILVER, BRONZE = coin_pb2.COIN_CATEGORY_GOLD, coin_pb2.COIN_CATEGORY_SILVER, coin_pb2.COIN_CATEGORY_BRONZE
# gRPC itself repeats calls, sets their deadlines, and waits as long as the service asks for, as the contract says.
SERVICE_CONFIG = Path(__file__).parents[2] / "proto/service_config.json"
OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG.read_text()),
    # Retries a refused connection after 100 ms instead of gRPC's default of about 1 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
# ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
STORED = (coin_service_pb2.CoinUploadResult.OUTCOME_INSERTED, coin_service_pb2.CoinUploadResult.OUTCOME_ALREADY_PRESENT)


class Details:
    """The details in the google.rpc.Status of a failed call."""

    def __init__(self, error):
        self.reason, self.fields = "", []
        packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        for detail in status_pb2.Status.FromString(packed).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]


def mint(category, count=1):
    """Creates coins of a category. The sizes come from the options in coin.proto."""
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
    """Returns the options of every call by this user."""
    return {"metadata": (("authorization", f"Bearer {token}"),)}


def key_bytes(coins):
    return [(coin.key_id, coin.public_key, coin.signature) for coin in coins]


def coins_of(device_id, result):
    """Returns the coins whose private halves are in the vault of this device."""
    return [coin for device in result.devices for coin in device.coins if coin.device_id == device_id]


def main():
    owner, owner_id = as_user(os.environ["OWNER_TOKEN"]), os.environ["OWNER_ID"]
    requester = as_user(os.environ["REQUESTER_TOKEN"])
    # Each installation of the messenger is a device. It chooses its id once and keeps it.
    phone, laptop = str(uuid.uuid4()), str(uuid.uuid4())
    minted = {phone: mint(GOLD) + mint(SILVER) + mint(BRONZE), laptop: mint(GOLD) + mint(BRONZE, 2)}

    with grpc.insecure_channel(os.environ["COIN_SERVICE_ADDRESS"], options=OPTIONS) as channel:
        service = coin_service_pb2_grpc.CoinServiceStub(channel)

        uploaded = []
        for device, coins in minted.items():
            upload = coin_service_pb2.UploadCoinsRequest(coins=coins, device_id=device)
            uploaded += service.UploadCoins(upload, **owner).results

        # Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item
        # returns the same coins. A malformed item fails alone.
        item = coin_service_pb2.DeviceCoinsRequest(
            target_user_id=owner_id,
            coin_category=GOLD,
            count=2,
            request_id=str(uuid.uuid4()),
            allow_lower_categories=True,
        )
        malformed = coin_service_pb2.DeviceCoinsRequest(target_user_id="not-a-uuid")
        fetch = coin_service_pb2.FetchDeviceCoinsRequest(requests=[item, malformed])
        fetched, failed = service.FetchDeviceCoins(fetch, **requester).results
        repeated, _ = service.FetchDeviceCoins(fetch, **requester).results

        count = coin_service_pb2.GetInventoryCountRequest(device_id=phone)
        left = service.GetInventoryCount(count, **owner).available

        # The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
        removed = service.RemoveDevice(coin_service_pb2.RemoveDeviceRequest(device_id=laptop), **owner)
        listed = service.ListDevices(coin_service_pb2.ListDevicesRequest(), **owner).devices

        try:
            service.FetchCoins(coin_service_pb2.FetchCoinsRequest(target_user_id="not-a-uuid"), **requester)
            refused = None
        except grpc.RpcError as error:
            details = Details(error)
            refused = {"code": error.code().value[0], "reason": details.reason, "fields": details.fields}

    def names(device):
        return [coin_pb2.CoinCategory.Name(coin.coin_category) for coin in coins_of(device, fetched)]

    def as_uploaded(device):
        return key_bytes(coins_of(device, fetched)) == key_bytes(minted[device][:2])

    print(
        json.dumps(
            {
                "uploaded": sum(result.outcome in STORED for result in uploaded),
                "fetched": {"phone": names(phone), "laptop": names(laptop)},
                "fetched_as_uploaded": as_uploaded(phone) and as_uploaded(laptop),
                "repeat_is_the_same": repeated == fetched,
                "failed_item": {"code": failed.error.code, "reason": failed.error.reason},
                "left": {"gold": left.gold, "silver": left.silver, "bronze": left.bronze},
                "retired": removed.retired_count,
                "devices_left": len(listed),
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Sends one message to every device of each contact, and says which could not be reached.

    export COIN_SERVICE_ADDRESS=127.0.0.1:50051 REQUESTER_TOKEN=<JWT of the sender>
    PYTHONPATH=gen /usr/bin/python3 send_to_devices.py <user id of a contact>…
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path

import grpc
from aqm.coin.v1 import coin_pb2, coin_service_pb2, coin_service_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

# gRPC itself repeats a failed call, up to four times. Longer waits, and items that failed, are this program's task.
OPTIONS = (("grpc.service_config", (Path(__file__).parents[2] / "proto/service_config.json").read_text()),)
MAX_ITEMS = 50
PATIENCE_S = 60


def error_of(failed):
    """Returns the error of a failed call in the form in which an item has its own."""
    error = coin_pb2.ItemError(code=failed.code().value[0], reason=failed.code().name)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    packed = dict(failed.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(packed).details:
        if detail.Unpack(info):
            error.reason = info.reason
        elif detail.Unpack(retry):
            error.retry_delay.CopyFrom(retry.retry_delay)
    return error


def main():
    metadata = (("authorization", f"Bearer {os.environ['REQUESTER_TOKEN']}"),)
    # An item keeps its request_id for as long as it is repeated, so that no coin is lost with a reply.
    wish = {"coin_category": coin_pb2.COIN_CATEGORY_GOLD, "allow_lower_categories": True, "count": 1}
    pending = [
        coin_service_pb2.DeviceCoinsRequest(target_user_id=contact, request_id=str(uuid.uuid4()), **wish)
        for contact in sys.argv[1:]
    ]
    sent, unreached, size, give_up = [], [], MAX_ITEMS, time.monotonic() + PATIENCE_S
    with grpc.insecure_channel(os.environ["COIN_SERVICE_ADDRESS"], options=OPTIONS) as channel:
        service = coin_service_pb2_grpc.CoinServiceStub(channel)
        while pending:
            items, pending, pause = pending[:size], pending[size:], 0
            try:
                request = coin_service_pb2.FetchDeviceCoinsRequest(requests=items)
                results = service.FetchDeviceCoins(request, metadata=metadata).results
            except grpc.RpcError as failed:
                results = [coin_service_pb2.DeviceCoinsResult(error=error_of(failed))] * len(items)
            for item, result in zip(items, results):
                contact, error = item.target_user_id, result.error
                delay = error.retry_delay.ToTimedelta().total_seconds()
                if error.reason == "CALL_TOO_LARGE" and len(items) > 1:
                    pending.append(item)
                    size = len(items) // 2
                elif error.HasField("retry_delay") and time.monotonic() + delay < give_up:
                    pending.append(item)
                    pause = max(pause, delay)
                elif result.HasField("error") or not result.devices:
                    unreached.append((contact, "", error.reason or "no devices"))
                for device in result.devices:
                    # Sending: verify the signature, encrypt with the public_key, and address the parcel like this.
                    sent.extend((contact, device.device_id, coin.key_id) for coin in device.coins)
                    if not device.coins:
                        unreached.append((contact, device.device_id, "no coins"))
            time.sleep(pause)
    print(json.dumps({"sent": sent, "unreached": unreached}))


if __name__ == "__main__":
    main()

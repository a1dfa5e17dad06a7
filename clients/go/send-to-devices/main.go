// Sends one message to every device of each contact, and says which could not be reached. Run in the folder above with
// COIN_SERVICE_ADDRESS (127.0.0.1:50051) and REQUESTER_TOKEN (JWT of the sender): go run ./send-to-devices <user id>…
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"time"

	coinv1 "aqm.example/client/gen/aqm/coin/v1"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// errorOf returns the error of a failed call in the form in which an item has its own.
func errorOf(err error) *coinv1.ItemError {
	found := &coinv1.ItemError{Code: int32(status.Code(err)), Reason: status.Code(err).String()}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			found.Reason = info.Reason
		} else if retry, ok := detail.(*errdetails.RetryInfo); ok {
			found.RetryDelay = retry.RetryDelay
		}
	}
	return found
}

func main() {
	// gRPC itself repeats a failed call, up to four times. Longer waits, and items that failed, are this program's task.
	config, _ := os.ReadFile("../../proto/service_config.json") // without it NewClient fails
	retries, plaintext := grpc.WithDefaultServiceConfig(string(config)), grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(os.Getenv("COIN_SERVICE_ADDRESS"), plaintext, retries)
	if err != nil {
		panic(err)
	}
	service := coinv1.NewCoinServiceClient(connection)
	sender := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Getenv("REQUESTER_TOKEN"))
	pending := []*coinv1.DeviceCoinsRequest{}
	for _, contact := range os.Args[1:] { // an item keeps its request_id when it is repeated, so no coin is lost with a reply
		pending = append(pending, &coinv1.DeviceCoinsRequest{TargetUserId: contact, RequestId: uuid.NewString(), Count: 1,
			CoinCategory: coinv1.CoinCategory_COIN_CATEGORY_GOLD, AllowLowerCategories: true})
	}
	sent, unreached, size, giveUp := [][]string{}, [][]string{}, 50, time.Now().Add(time.Minute)
	for len(pending) > 0 {
		items, pause := pending[:min(size, len(pending))], time.Duration(0)
		pending = pending[len(items):]
		answer, err := service.FetchDeviceCoins(sender, &coinv1.FetchDeviceCoinsRequest{Requests: items})
		for i, item := range items {
			result := &coinv1.DeviceCoinsResult{Error: errorOf(err)}
			if err == nil {
				result = answer.Results[i]
			}
			reason, delay := result.Error.GetReason(), result.Error.GetRetryDelay().AsDuration()
			if reason == "CALL_TOO_LARGE" && len(items) > 1 {
				pending, size = append(pending, item), len(items)/2
			} else if delay > 0 && time.Now().Add(delay).Before(giveUp) {
				pending, pause = append(pending, item), max(pause, delay)
			} else if len(result.Devices) == 0 {
				unreached = append(unreached, []string{item.TargetUserId, "", cmp.Or(reason, "no devices")})
			}
			for _, device := range result.Devices {
				for _, coin := range device.Coins { // sending: verify the signature, encrypt, and address the parcel like this
					sent = append(sent, []string{item.TargetUserId, device.DeviceId, coin.KeyId})
				}
				if len(device.Coins) == 0 {
					unreached = append(unreached, []string{item.TargetUserId, device.DeviceId, "no coins"})
				}
			}
		}
		time.Sleep(pause)
	}
	json.NewEncoder(os.Stdout).Encode(map[string][][]string{"sent": sent, "unreached": unreached})
}

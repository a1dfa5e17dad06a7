// Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices. In this folder:
//
//	buf generate
//	export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=<uuid>
//	export OWNER_TOKEN=<JWT of that user> REQUESTER_TOKEN=<JWT of another user>
//	go run .
//
// Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task of the
// minting module.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coinv1 "aqm.example/client/gen/aqm/coin/v1"
)

const (
	gold   = coinv1.CoinCategory_COIN_CATEGORY_GOLD
	silver = coinv1.CoinCategory_COIN_CATEGORY_SILVER
	bronze = coinv1.CoinCategory_COIN_CATEGORY_BRONZE

	inserted, alreadyPresent = coinv1.CoinUploadResult_OUTCOME_INSERTED, coinv1.CoinUploadResult_OUTCOME_ALREADY_PRESENT
)

// details holds the details in the google.rpc.Status of a failed call.
type details struct {
	Code   codes.Code `json:"code"`
	Reason string     `json:"reason"`
	Fields []string   `json:"fields"`
}

func detailsOf(err error) details {
	failed := status.Convert(err)
	found := details{Code: failed.Code()}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason = detail.Reason
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				found.Fields = append(found.Fields, violation.Field)
			}
		}
	}
	return found
}

// connect returns a client. gRPC itself repeats calls, sets their deadlines, and waits as long as the service asks for, as
// the contract's service config says.
func connect(address string) (*grpc.ClientConn, error) {
	config, err := os.ReadFile("../../proto/service_config.json")
	if err != nil {
		return nil, err
	}
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	return grpc.NewClient(address, plaintext, grpc.WithDefaultServiceConfig(string(config)))
}

// as returns the context of the calls of the user with this token.
func as(token string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

// mint creates coins of a category. The sizes come from the options in coin.proto.
func mint(category coinv1.CoinCategory, count int) []*coinv1.Coin {
	value := category.Descriptor().Values().ByNumber(category.Number())
	spec := proto.GetExtension(value.Options(), coinv1.E_CoinCategorySpec).(*coinv1.CoinCategorySpec)
	coins := make([]*coinv1.Coin, count)
	for i := range coins {
		coin := &coinv1.Coin{KeyId: uuid.NewString(), CoinCategory: category}
		coin.PublicKey, coin.Signature = make([]byte, spec.PublicKeySize), make([]byte, spec.SignatureSize)
		rand.Read(coin.PublicKey)
		rand.Read(coin.Signature)
		coins[i] = coin
	}
	return coins
}

// coinsOf returns the coins whose private halves are in the vault of this device.
func coinsOf(device string, result *coinv1.DeviceCoinsResult) []*coinv1.Coin {
	coins := []*coinv1.Coin{}
	for _, found := range result.Devices {
		for _, coin := range found.Coins {
			if coin.DeviceId == device {
				coins = append(coins, coin)
			}
		}
	}
	return coins
}

func categories(coins []*coinv1.Coin) []string {
	names := []string{}
	for _, coin := range coins {
		names = append(names, coin.CoinCategory.String())
	}
	return names
}

func sameKeys(a, b *coinv1.Coin) bool {
	return a.KeyId == b.KeyId && string(a.PublicKey) == string(b.PublicKey) && string(a.Signature) == string(b.Signature)
}

func main() {
	owner, requester := as(os.Getenv("OWNER_TOKEN")), as(os.Getenv("REQUESTER_TOKEN"))
	connection := must(connect(os.Getenv("COIN_SERVICE_ADDRESS")))
	defer connection.Close()
	service := coinv1.NewCoinServiceClient(connection)

	// Each installation of the messenger is a device. It chooses its id once and keeps it.
	phone, laptop := uuid.NewString(), uuid.NewString()
	ofPhone := slices.Concat(mint(gold, 1), mint(silver, 1), mint(bronze, 1))
	ofLaptop := slices.Concat(mint(gold, 1), mint(bronze, 2))
	upload := func(device string, coins []*coinv1.Coin) []*coinv1.CoinUploadResult {
		return must(service.UploadCoins(owner, &coinv1.UploadCoinsRequest{Coins: coins, DeviceId: device})).Results
	}
	uploaded := slices.Concat(upload(phone, ofPhone), upload(laptop, ofLaptop))

	// Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item
	// returns the same coins. A malformed item fails alone.
	fetch := &coinv1.FetchDeviceCoinsRequest{Requests: []*coinv1.DeviceCoinsRequest{
		{
			TargetUserId: os.Getenv("OWNER_ID"), CoinCategory: gold, Count: 2,
			RequestId: uuid.NewString(), AllowLowerCategories: true,
		},
		{TargetUserId: "not-a-uuid"},
	}}
	results := must(service.FetchDeviceCoins(requester, fetch)).Results
	fetched, failed := results[0], results[1].Error
	repeated := must(service.FetchDeviceCoins(requester, fetch)).Results[0]

	left := must(service.GetInventoryCount(owner, &coinv1.GetInventoryCountRequest{DeviceId: phone})).Available

	// The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
	removed := must(service.RemoveDevice(owner, &coinv1.RemoveDeviceRequest{DeviceId: laptop}))
	listed := must(service.ListDevices(owner, &coinv1.ListDevicesRequest{})).Devices

	_, refused := service.FetchCoins(requester, &coinv1.FetchCoinsRequest{TargetUserId: "not-a-uuid"})

	// ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
	stored := 0
	for _, result := range uploaded {
		if result.Outcome == inserted || result.Outcome == alreadyPresent {
			stored++
		}
	}
	fetchedOfPhone, fetchedOfLaptop := coinsOf(phone, fetched), coinsOf(laptop, fetched)
	fmt.Printf("%s\n", must(json.Marshal(map[string]any{
		"uploaded": stored,
		"fetched":  map[string][]string{"phone": categories(fetchedOfPhone), "laptop": categories(fetchedOfLaptop)},
		"fetched_as_uploaded": slices.EqualFunc(fetchedOfPhone, ofPhone[:2], sameKeys) &&
			slices.EqualFunc(fetchedOfLaptop, ofLaptop[:2], sameKeys),
		"repeat_is_the_same": proto.Equal(repeated, fetched),
		"failed_item":        map[string]any{"code": failed.GetCode(), "reason": failed.GetReason()},
		"left":               map[string]int32{"gold": left.Gold, "silver": left.Silver, "bronze": left.Bronze},
		"retired":            removed.RetiredCount,
		"devices_left":       len(listed),
		"refused":            detailsOf(refused),
	})))
}

// must exits at the first error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

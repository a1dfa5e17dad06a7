// Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices. In this folder:
//
//   make
//   export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=<uuid>
//   export OWNER_TOKEN=<JWT of that user> REQUESTER_TOKEN=<JWT of another user>
//   build/example
//
// Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task of the
// minting module.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <stdexcept>

#include "aqm/coin/v1/coin_service.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

using namespace aqm::coin::v1;
using Coins = google::protobuf::RepeatedPtrField<Coin>;

std::random_device entropy;

// The details in the google.rpc.Status of a failed call.
struct Details {
  std::string reason;
  std::vector<std::string> fields;

  explicit Details(const grpc::Status& failed) {
    google::rpc::Status status;
    status.ParseFromString(failed.error_details());
    for (const auto& detail : status.details()) {
      google::rpc::ErrorInfo info;
      google::rpc::BadRequest bad;
      if (detail.UnpackTo(&info)) {
        reason = info.reason();
      } else if (detail.UnpackTo(&bad)) {
        for (const auto& violation : bad.field_violations()) fields.push_back(violation.field());
      }
    }
  }
};

using Stub = CoinService::Stub;
template <class Request, class Response>
using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

// Makes one call as the user with this token.
template <class Request, class Response>
grpc::Status Call(Stub& stub, Method<Request, Response> method, const std::string& token, const Request& request,
                  Response* response) {
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + token);
  return (stub.*method)(&context, request, response);
}

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  std::generate(bytes.begin(), bytes.end(), [] { return static_cast<char>(entropy()); });
  return bytes;
}

// Linux generates a new UUID on each read.
std::string Uuid() {
  std::string text;
  std::ifstream("/proc/sys/kernel/random/uuid") >> text;
  return text;
}

// Creates coins of a category. The sizes come from the options in coin.proto.
void Mint(CoinCategory category, int count, Coins* coins) {
  const auto& options = CoinCategory_descriptor()->FindValueByNumber(category)->options();
  const CoinCategorySpec& spec = options.GetExtension(coin_category_spec);
  for (int i = 0; i < count; i++) {
    Coin* coin = coins->Add();
    coin->set_key_id(Uuid());
    coin->set_coin_category(category);
    coin->set_public_key(RandomBytes(spec.public_key_size()));
    coin->set_signature(RandomBytes(spec.signature_size()));
  }
}

// Returns the coins whose private halves are in the vault of this device.
Coins CoinsOf(const std::string& device, const DeviceCoinsResult& result) {
  Coins found;
  for (const auto& of_device : result.devices()) {
    for (const Coin& coin : of_device.coins()) {
      if (coin.device_id() == device) *found.Add() = coin;
    }
  }
  return found;
}

std::vector<std::string> Names(const Coins& coins) {
  std::vector<std::string> names;
  for (const Coin& coin : coins) names.push_back(CoinCategory_Name(coin.coin_category()));
  return names;
}

bool SameKeys(const Coin& a, const Coin& b) {
  return a.key_id() == b.key_id() && a.public_key() == b.public_key() && a.signature() == b.signature();
}

template <class Names>
std::string Json(const Names& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "\"" : ",\"") + name + "\"";
  return "[" + text + "]";
}

void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message() + " " + Details(status).reason);
}

int main() {
  const std::string owner = std::getenv("OWNER_TOKEN"), requester = std::getenv("REQUESTER_TOKEN");
  std::ifstream config("../../proto/service_config.json");
  grpc::ChannelArguments arguments;
  // gRPC itself repeats calls, sets their deadlines, and waits as long as the service asks for, as the contract says.
  arguments.SetServiceConfigJSON({std::istreambuf_iterator<char>(config), {}});
  // Retries a refused connection after 100 ms instead of gRPC's default of about 1 s.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  const auto channel =
      grpc::CreateCustomChannel(std::getenv("COIN_SERVICE_ADDRESS"), grpc::InsecureChannelCredentials(), arguments);
  Stub stub(channel);

  // Each installation of the messenger is a device. It chooses its id once and keeps it.
  UploadCoinsRequest phone, laptop;
  phone.set_device_id(Uuid());
  Mint(COIN_CATEGORY_GOLD, 1, phone.mutable_coins());
  Mint(COIN_CATEGORY_SILVER, 1, phone.mutable_coins());
  Mint(COIN_CATEGORY_BRONZE, 1, phone.mutable_coins());
  laptop.set_device_id(Uuid());
  Mint(COIN_CATEGORY_GOLD, 1, laptop.mutable_coins());
  Mint(COIN_CATEGORY_BRONZE, 2, laptop.mutable_coins());
  int stored = 0;
  for (const auto* upload : {&phone, &laptop}) {
    UploadCoinsResponse uploaded;
    Check(Call(stub, &Stub::UploadCoins, owner, *upload, &uploaded));
    // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
    stored += std::count_if(uploaded.results().begin(), uploaded.results().end(), [](const auto& result) {
      return result.outcome() == CoinUploadResult::OUTCOME_INSERTED ||
             result.outcome() == CoinUploadResult::OUTCOME_ALREADY_PRESENT;
    });
  }

  // Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item
  // returns the same coins. A malformed item fails alone.
  FetchDeviceCoinsRequest fetch;
  DeviceCoinsRequest* item = fetch.add_requests();
  item->set_target_user_id(std::getenv("OWNER_ID"));
  item->set_coin_category(COIN_CATEGORY_GOLD);
  item->set_count(2);
  item->set_request_id(Uuid());
  item->set_allow_lower_categories(true);
  fetch.add_requests()->set_target_user_id("not-a-uuid");
  FetchDeviceCoinsResponse fetched, repeated;
  Check(Call(stub, &Stub::FetchDeviceCoins, requester, fetch, &fetched));
  Check(Call(stub, &Stub::FetchDeviceCoins, requester, fetch, &repeated));
  const ItemError& failed = fetched.results(1).error();

  GetInventoryCountRequest count;
  count.set_device_id(phone.device_id());
  GetInventoryCountResponse counted;
  Check(Call(stub, &Stub::GetInventoryCount, owner, count, &counted));
  const InventoryCount& left = counted.available();

  // The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
  RemoveDeviceRequest remove;
  remove.set_device_id(laptop.device_id());
  RemoveDeviceResponse removed;
  Check(Call(stub, &Stub::RemoveDevice, owner, remove, &removed));
  ListDevicesResponse listed;
  Check(Call(stub, &Stub::ListDevices, owner, ListDevicesRequest(), &listed));

  FetchCoinsRequest wrong;
  wrong.set_target_user_id("not-a-uuid");
  FetchCoinsResponse nothing;
  const grpc::Status refused = Call(stub, &Stub::FetchCoins, requester, wrong, &nothing);
  const Details details(refused);

  const Coins of_phone = CoinsOf(phone.device_id(), fetched.results(0));
  const Coins of_laptop = CoinsOf(laptop.device_id(), fetched.results(0));
  const auto is_start_of = [](const Coins& got, const Coins& sent) {
    return std::equal(got.begin(), got.end(), sent.begin(), sent.begin() + 2, SameKeys);
  };
  const bool is_the_same = repeated.results(0).SerializeAsString() == fetched.results(0).SerializeAsString();
  std::cout << std::boolalpha << "{\"uploaded\":" << stored << ",\"fetched\":{\"phone\":" << Json(Names(of_phone))
            << ",\"laptop\":" << Json(Names(of_laptop)) << "},\"fetched_as_uploaded\":"
            << (is_start_of(of_phone, phone.coins()) && is_start_of(of_laptop, laptop.coins()))
            << ",\"repeat_is_the_same\":" << is_the_same << ",\"failed_item\":{\"code\":" << failed.code()
            << ",\"reason\":\"" << failed.reason() << "\"},\"left\":{\"gold\":" << left.gold()
            << ",\"silver\":" << left.silver() << ",\"bronze\":" << left.bronze()
            << "},\"retired\":" << removed.retired_count() << ",\"devices_left\":" << listed.devices_size()
            << ",\"refused\":{\"code\":" << refused.error_code() << ",\"reason\":\"" << details.reason
            << "\",\"fields\":" << Json(details.fields) << "}}" << std::endl;
}

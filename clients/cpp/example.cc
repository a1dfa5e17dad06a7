// Uploads coins as one user, fetches them as another, and counts what is left. In this folder:
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

  UploadCoinsRequest upload;
  Mint(COIN_CATEGORY_GOLD, 2, upload.mutable_coins());
  Mint(COIN_CATEGORY_SILVER, 1, upload.mutable_coins());
  Mint(COIN_CATEGORY_BRONZE, 3, upload.mutable_coins());
  UploadCoinsResponse uploaded;
  Check(Call(stub, &Stub::UploadCoins, owner, upload, &uploaded));

  // The request_id makes the fetch repeatable: after a lost reply, the same call returns the same coins.
  FetchCoinsRequest fetch;
  fetch.set_target_user_id(std::getenv("OWNER_ID"));
  fetch.set_coin_category(COIN_CATEGORY_GOLD);
  fetch.set_count(3);
  fetch.set_request_id(Uuid());
  fetch.set_allow_lower_categories(true);
  FetchCoinsResponse fetched, repeated;
  Check(Call(stub, &Stub::FetchCoins, requester, fetch, &fetched));
  Check(Call(stub, &Stub::FetchCoins, requester, fetch, &repeated));

  GetInventoryCountResponse counted;
  Check(Call(stub, &Stub::GetInventoryCount, owner, GetInventoryCountRequest(), &counted));
  const InventoryCount& left = counted.available();

  FetchCoinsRequest wrong;
  wrong.set_target_user_id("not-a-uuid");
  FetchCoinsResponse nothing;
  const grpc::Status refused = Call(stub, &Stub::FetchCoins, requester, wrong, &nothing);
  const Details details(refused);

  // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
  const auto stored = std::count_if(uploaded.results().begin(), uploaded.results().end(), [](const auto& result) {
    return result.outcome() == CoinUploadResult::OUTCOME_INSERTED ||
           result.outcome() == CoinUploadResult::OUTCOME_ALREADY_PRESENT;
  });
  std::vector<std::string> categories;
  for (const Coin& coin : fetched.coins()) categories.push_back(CoinCategory_Name(coin.coin_category()));
  const auto& sent = upload.coins();
  const auto& got = fetched.coins();
  const auto& again = repeated.coins();
  std::cout << std::boolalpha << "{\"uploaded\":" << stored << ",\"fetched\":" << Json(categories)
            << ",\"fetched_as_uploaded\":" << std::equal(got.begin(), got.end(), sent.begin(), sent.begin() + 3, SameKeys)
            << ",\"repeat_is_the_same\":" << std::equal(got.begin(), got.end(), again.begin(), again.end(), SameKeys)
            << ",\"left\":{\"gold\":" << left.gold() << ",\"silver\":" << left.silver()
            << ",\"bronze\":" << left.bronze() << "},\"refused\":{\"code\":" << refused.error_code()
            << ",\"reason\":\"" << details.reason << "\",\"fields\":" << Json(details.fields) << "}}" << std::endl;
}

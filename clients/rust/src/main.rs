//! Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices. In this folder:
//!
//!     export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=<uuid>
//!     export OWNER_TOKEN=<JWT of that user> REQUESTER_TOKEN=<JWT of another user>
//!     cargo run
//!
//! Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task of the
//! minting module.
use std::{
    env,
    error::Error,
    sync::LazyLock,
    time::{Duration, Instant},
};

use aqm::coin::v1::{
    Coin, CoinCategory, DeviceCoinsRequest, DeviceCoinsResult, FetchCoinsRequest, FetchDeviceCoinsRequest,
    GetInventoryCountRequest, ListDevicesRequest, RemoveDeviceRequest, UploadCoinsRequest,
    coin_service_client::CoinServiceClient, coin_upload_result::Outcome,
};
use rand::Rng;
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status, transport::Endpoint};
use tonic_types::StatusExt;
use uuid::Uuid;

mod aqm {
    pub mod coin {
        #[allow(dead_code)]
        pub mod v1 {
            tonic::include_proto!("aqm.coin.v1");
        }
    }
}

/// The sizes of each category, from the options in coin.proto; see build.rs.
const SIZES: &[(i32, usize, usize)] = include!(concat!(env!("OUT_DIR"), "/category_sizes.rs"));

/// The part of the contract's service config about the coin service. tonic does not read it.
static CONFIG: LazyLock<Value> = LazyLock::new(|| {
    let config: Value = serde_json::from_str(include_str!("../../../proto/service_config.json")).expect("it is JSON");
    config["methodConfig"][0].clone()
});

/// Returns a duration such as "0.2s".
fn duration(text: &Value) -> Duration {
    let seconds = text.as_str().and_then(|text| text.strip_suffix('s')).and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.expect("a duration has seconds"))
}

/// True if the service config lets a call with this failure be repeated. tonic does not report UNAVAILABLE if a connection
/// breaks during a call. Such an error has a source, which no answer of the service has.
fn is_retryable(status: &Status) -> bool {
    let name = match status.code() {
        Code::Unavailable => "UNAVAILABLE",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "",
    };
    let codes = CONFIG["retryPolicy"]["retryableStatusCodes"].as_array();
    status.source().is_some() || codes.is_some_and(|codes| codes.iter().any(|code| code == name))
}

/// Sends the message, and repeats it as gRPC does it with the service config of the contract.
async fn call<M: Clone, R>(
    method: impl AsyncFn(Request<M>) -> Result<Response<R>, Status>,
    token: &str,
    message: M,
) -> Result<R, Status> {
    let policy = &CONFIG["retryPolicy"];
    let deadline = Instant::now() + duration(&CONFIG["timeout"]);
    let mut backoff = duration(&policy["initialBackoff"]);
    let mut attempt = 1;
    loop {
        let mut request = Request::new(message.clone());
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        let status = match method(request).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if policy["maxAttempts"] == attempt || !is_retryable(&status) => return Err(status),
            Err(status) => status,
        };
        // As long as the service asks for, until the deadline of the call. A negative pushback forbids a repeat.
        let pause = match status.metadata().get("grpc-retry-pushback-ms") {
            None => backoff.mul_f64(rand::rng().random_range(0.8..1.2)),
            Some(pushback) => match pushback.to_str().ok().and_then(|text| text.parse().ok()) {
                Some(ms) => Duration::from_millis(ms),
                None => return Err(status),
            },
        };
        if Instant::now() + pause > deadline {
            return Err(status);
        }
        tokio::time::sleep(pause).await;
        backoff =
            backoff.mul_f64(policy["backoffMultiplier"].as_f64().unwrap_or(1.0)).min(duration(&policy["maxBackoff"]));
        attempt += 1;
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

fn mint(category: CoinCategory, count: usize) -> Vec<Coin> {
    let size = SIZES.iter().find(|(number, ..)| *number == category as i32);
    let (_, key, signature) = *size.expect("every category has sizes");
    let bytes = |size| (0..size).map(|_| rand::random()).collect::<Vec<u8>>();
    let coin = || Coin {
        key_id: Uuid::new_v4().to_string(),
        coin_category: category.into(),
        public_key: bytes(key),
        signature: bytes(signature),
        // So that a field that is added later does not break the build.
        ..Default::default()
    };
    std::iter::repeat_with(coin).take(count).collect()
}

/// Returns the coins whose private halves are in the vault of this device.
fn coins_of(device: &str, result: &DeviceCoinsResult) -> Vec<Coin> {
    let coins = result.devices.iter().flat_map(|found| &found.coins);
    coins.filter(|coin| coin.device_id == device).cloned().collect()
}

fn names(coins: &[Coin]) -> Vec<&str> {
    coins.iter().map(|coin| coin.coin_category().as_str_name()).collect()
}

fn key_bytes(coins: &[Coin]) -> Vec<(&str, &[u8], &[u8])> {
    coins.iter().map(|coin| (coin.key_id.as_str(), &coin.public_key[..], &coin.signature[..])).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (owner, requester) = (env::var("OWNER_TOKEN")?, env::var("REQUESTER_TOKEN")?);
    let channel = Endpoint::try_from(format!("http://{}", env::var("COIN_SERVICE_ADDRESS")?))?.connect_lazy();
    // Clones share the connection.
    let client = CoinServiceClient::new(channel);
    let upload = async |request| client.clone().upload_coins(request).await;
    let fetch_of_devices = async |request| client.clone().fetch_device_coins(request).await;
    let fetch = async |request| client.clone().fetch_coins(request).await;
    let count = async |request| client.clone().get_inventory_count(request).await;
    let remove = async |request| client.clone().remove_device(request).await;
    let list = async |request| client.clone().list_devices(request).await;

    // Each installation of the messenger is a device. It chooses its id once and keeps it.
    let (phone, laptop) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let of_phone = [mint(CoinCategory::Gold, 1), mint(CoinCategory::Silver, 1), mint(CoinCategory::Bronze, 1)].concat();
    let of_laptop = [mint(CoinCategory::Gold, 1), mint(CoinCategory::Bronze, 2)].concat();
    let mut uploaded = Vec::new();
    for (device, coins) in [(&phone, &of_phone), (&laptop, &of_laptop)] {
        let message =
            UploadCoinsRequest { coins: coins.clone(), device_id: device.clone(), ..Default::default() };
        uploaded.extend(call(upload, &owner, message).await?.results);
    }

    // Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item
    // returns the same coins. A malformed item fails alone.
    let item = DeviceCoinsRequest {
        target_user_id: env::var("OWNER_ID")?,
        coin_category: CoinCategory::Gold.into(),
        count: 2,
        request_id: Uuid::new_v4().to_string(),
        allow_lower_categories: true,
        ..Default::default()
    };
    let malformed = DeviceCoinsRequest { target_user_id: "not-a-uuid".into(), ..Default::default() };
    let message = FetchDeviceCoinsRequest { requests: vec![item, malformed], ..Default::default() };
    let fetched = call(fetch_of_devices, &requester, message.clone()).await?.results;
    let repeated = call(fetch_of_devices, &requester, message).await?.results;
    let failed = fetched[1].error.clone().unwrap_or_default();

    let message = GetInventoryCountRequest { device_id: phone.clone(), ..Default::default() };
    let left = call(count, &owner, message).await?.available.unwrap_or_default();

    // The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
    let message = RemoveDeviceRequest { device_id: laptop.clone(), ..Default::default() };
    let removed = call(remove, &owner, message).await?;
    let listed = call(list, &owner, ListDevicesRequest::default()).await?.devices;

    let message = FetchCoinsRequest { target_user_id: "not-a-uuid".into(), ..Default::default() };
    let refused = call(fetch, &requester, message).await.err().map(|status| {
        let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        let fields: Vec<_> = bad.into_iter().map(|violation| violation.field).collect();
        json!({ "code": status.code() as i32, "reason": reason(&status), "fields": fields })
    });

    let (fetched_of_phone, fetched_of_laptop) = (coins_of(&phone, &fetched[0]), coins_of(&laptop, &fetched[0]));
    let result = json!({
        // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
        "uploaded": uploaded
            .iter()
            .filter(|result| matches!(result.outcome(), Outcome::Inserted | Outcome::AlreadyPresent))
            .count(),
        "fetched": { "phone": names(&fetched_of_phone), "laptop": names(&fetched_of_laptop) },
        "fetched_as_uploaded": key_bytes(&fetched_of_phone) == key_bytes(&of_phone[..2])
            && key_bytes(&fetched_of_laptop) == key_bytes(&of_laptop[..2]),
        "repeat_is_the_same": repeated[0] == fetched[0],
        "failed_item": { "code": failed.code, "reason": failed.reason },
        "left": { "gold": left.gold, "silver": left.silver, "bronze": left.bronze },
        "retired": removed.retired_count,
        "devices_left": listed.len(),
        "refused": refused,
    });
    println!("{result}");
    Ok(())
}

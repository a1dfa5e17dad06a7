import aqm.coin.v1.*;
import aqm.coin.v1.CoinServiceGrpc.CoinServiceBlockingStub;
import aqm.coin.v1.CoinUploadResult.Outcome;
import com.google.gson.Gson;
import com.google.protobuf.*;
import com.google.rpc.*;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.*;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Uploads coins for two devices of one user, and fetches them as another user, one fetch for all devices. In this folder:
 *
 * <pre>
 * mvn compile
 * export COIN_SERVICE_ADDRESS=127.0.0.1:50051 OWNER_ID=&lt;uuid&gt;
 * export OWNER_TOKEN=&lt;JWT of that user&gt; REQUESTER_TOKEN=&lt;JWT of another user&gt;
 * java -cp 'target/classes:target/lib/*' Example
 * </pre>
 *
 * Prints one JSON object. The keys are random bytes of the correct sizes; creating real ones is the task of the
 * minting module.
 */
public final class Example {
  private static final Set<Outcome> STORED = Set.of(Outcome.OUTCOME_INSERTED, Outcome.OUTCOME_ALREADY_PRESENT);
  private static final SecureRandom RANDOM = new SecureRandom();

  /** The details in the google.rpc.Status of a failed call. */
  private record Details(String reason, List<String> fields) {
    static Details of(StatusRuntimeException error) throws InvalidProtocolBufferException {
      var reason = "";
      var fields = List.<String>of();
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
          fields = violations.stream().map(BadRequest.FieldViolation::getField).toList();
        }
      }
      return new Details(reason, fields);
    }
  }

  /**
   * Opens the connection. gRPC itself repeats calls, sets their deadlines, and waits as long as the service asks for, as the
   * contract's service config says.
   */
  private static ManagedChannel connect(String address) throws IOException {
    var config = new Gson().fromJson(Files.readString(Path.of("../../proto/service_config.json")), Map.class);
    @SuppressWarnings("unchecked")
    var typed = (Map<String, ?>) config;
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).defaultServiceConfig(typed).build();
  }

  /** Returns the stub of the user with this token. */
  private static CoinServiceBlockingStub as(String token, Channel channel) {
    var headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    return CoinServiceGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** Creates coins of a category. The sizes come from the options in coin.proto. */
  private static Stream<Coin> mint(CoinCategory category, int count) {
    var spec = category.getValueDescriptor().getOptions().getExtension(CoinProto.coinCategorySpec);
    return Stream.generate(() -> Coin.newBuilder()
            .setKeyId(UUID.randomUUID().toString())
            .setCoinCategory(category)
            .setPublicKey(randomBytes(spec.getPublicKeySize()))
            .setSignature(randomBytes(spec.getSignatureSize()))
            .build())
        .limit(count);
  }

  private static ByteString randomBytes(int size) {
    var bytes = new byte[size];
    RANDOM.nextBytes(bytes);
    return ByteString.copyFrom(bytes);
  }

  /** Returns the coins whose private halves are in the vault of this device. */
  private static List<Coin> coinsOf(String device, DeviceCoinsResult result) {
    var coins = result.getDevicesList().stream().flatMap(found -> found.getCoinsList().stream());
    return coins.filter(coin -> coin.getDeviceId().equals(device)).toList();
  }

  private static List<List<Object>> keyBytes(List<Coin> coins) {
    return coins.stream().map(coin -> List.<Object>of(coin.getKeyId(), coin.getPublicKey(), coin.getSignature())).toList();
  }

  private static String json(Stream<?> names) {
    return names.map(name -> "\"" + name + "\"").collect(Collectors.joining(",", "[", "]"));
  }

  public static void main(String[] arguments) throws Exception {
    var channel = connect(System.getenv("COIN_SERVICE_ADDRESS"));
    var owner = as(System.getenv("OWNER_TOKEN"), channel);
    var requester = as(System.getenv("REQUESTER_TOKEN"), channel);

    // Each installation of the messenger is a device. It chooses its id once and keeps it.
    var phone = UUID.randomUUID().toString();
    var laptop = UUID.randomUUID().toString();
    var tiersOfPhone = Stream.of(mint(CoinCategory.COIN_CATEGORY_GOLD, 1), mint(CoinCategory.COIN_CATEGORY_SILVER, 1),
        mint(CoinCategory.COIN_CATEGORY_BRONZE, 1));
    var ofPhone = tiersOfPhone.flatMap(tier -> tier).toList();
    var tiersOfLaptop = Stream.of(mint(CoinCategory.COIN_CATEGORY_GOLD, 1), mint(CoinCategory.COIN_CATEGORY_BRONZE, 2));
    var ofLaptop = tiersOfLaptop.flatMap(tier -> tier).toList();
    var uploaded = new ArrayList<CoinUploadResult>();
    for (var device : Map.of(phone, ofPhone, laptop, ofLaptop).entrySet()) {
      var upload = UploadCoinsRequest.newBuilder().setDeviceId(device.getKey()).addAllCoins(device.getValue()).build();
      uploaded.addAll(owner.uploadCoins(upload).getResultsList());
    }

    // Two coins of each device of the user. The request_id makes an item repeatable: after a lost reply, the same item
    // returns the same coins. A malformed item fails alone.
    var item = DeviceCoinsRequest.newBuilder()
        .setTargetUserId(System.getenv("OWNER_ID"))
        .setCoinCategory(CoinCategory.COIN_CATEGORY_GOLD)
        .setCount(2)
        .setRequestId(UUID.randomUUID().toString())
        .setAllowLowerCategories(true)
        .build();
    var malformed = DeviceCoinsRequest.newBuilder().setTargetUserId("not-a-uuid").build();
    var fetch = FetchDeviceCoinsRequest.newBuilder().addRequests(item).addRequests(malformed).build();
    var results = requester.fetchDeviceCoins(fetch).getResultsList();
    var fetched = results.get(0);
    var failed = results.get(1).getError();
    var repeated = requester.fetchDeviceCoins(fetch).getResults(0);

    var count = GetInventoryCountRequest.newBuilder().setDeviceId(phone).build();
    var left = owner.getInventoryCount(count).getAvailable();

    // The laptop is lost: its last coin is retired, and from now on no coin of it is handed out.
    var removed = owner.removeDevice(RemoveDeviceRequest.newBuilder().setDeviceId(laptop).build());
    var listed = owner.listDevices(ListDevicesRequest.getDefaultInstance()).getDevicesList();

    var refused = "null";
    try {
      requester.fetchCoins(FetchCoinsRequest.newBuilder().setTargetUserId("not-a-uuid").build());
    } catch (StatusRuntimeException error) {
      var details = Details.of(error);
      refused = "{\"code\":%d,\"reason\":\"%s\",\"fields\":%s}"
          .formatted(error.getStatus().getCode().value(), details.reason, json(details.fields.stream()));
    }
    channel.shutdownNow();

    // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
    var stored = uploaded.stream().filter(result -> STORED.contains(result.getOutcome())).count();
    var fetchedOfPhone = coinsOf(phone, fetched);
    var fetchedOfLaptop = coinsOf(laptop, fetched);
    var isAsUploaded = keyBytes(fetchedOfPhone).equals(keyBytes(ofPhone.subList(0, 2)))
        && keyBytes(fetchedOfLaptop).equals(keyBytes(ofLaptop.subList(0, 2)));
    System.out.printf(
        "{\"uploaded\":%d,\"fetched\":{\"phone\":%s,\"laptop\":%s},\"fetched_as_uploaded\":%b,"
            + "\"repeat_is_the_same\":%b,\"failed_item\":{\"code\":%d,\"reason\":\"%s\"},"
            + "\"left\":{\"gold\":%d,\"silver\":%d,\"bronze\":%d},\"retired\":%d,\"devices_left\":%d,\"refused\":%s}%n",
        stored, json(fetchedOfPhone.stream().map(Coin::getCoinCategory)),
        json(fetchedOfLaptop.stream().map(Coin::getCoinCategory)), isAsUploaded,
        repeated.equals(fetched), failed.getCode(), failed.getReason(),
        left.getGold(), left.getSilver(), left.getBronze(), removed.getRetiredCount(), listed.size(), refused);
  }
}

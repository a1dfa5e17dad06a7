import aqm.coin.v1.*;
import aqm.coin.v1.CoinServiceGrpc.CoinServiceBlockingStub;
import aqm.coin.v1.CoinUploadResult.Outcome;
import com.google.protobuf.*;
import com.google.rpc.*;
import io.grpc.*;
import io.grpc.Status.Code;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Uploads coins as one user, fetches them as another, and counts what is left. In this folder:
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
  private static final int ATTEMPTS = 8;
  private static final Duration DEADLINE = Duration.ofSeconds(10);
  private static final Set<Code> TRANSIENT = Set.of(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED);
  private static final Set<Outcome> STORED = Set.of(Outcome.OUTCOME_INSERTED, Outcome.OUTCOME_ALREADY_PRESENT);
  private static final SecureRandom RANDOM = new SecureRandom();

  /** The details in the google.rpc.Status of a failed call. */
  private record Details(String reason, List<String> fields, Duration retryDelay) {
    static Details of(StatusRuntimeException error) throws InvalidProtocolBufferException {
      var reason = "";
      var fields = List.<String>of();
      var retryDelay = Duration.ZERO;
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(BadRequest.class)) {
          var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
          fields = violations.stream().map(BadRequest.FieldViolation::getField).toList();
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryDelay = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
      return new Details(reason, fields, retryDelay);
    }
  }

  /** A user. Every call has a deadline, until which it waits for a connection. */
  private record User(CoinServiceBlockingStub stub, String token) {
    CoinServiceBlockingStub next() {
      var headers = new Metadata();
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
      return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
          .withDeadlineAfter(DEADLINE.toMillis(), TimeUnit.MILLISECONDS)
          .withWaitForReady();
    }

    /** Sends the request, and repeats it with the same request_id while the service is temporarily unavailable. */
    <R> R call(Function<CoinServiceBlockingStub, R> method) throws Exception {
      for (var attempt = 1; ; attempt++) {
        try {
          return method.apply(next());
        } catch (StatusRuntimeException error) {
          var code = error.getStatus().getCode();
          if (attempt == ATTEMPTS || !TRANSIENT.contains(code)) throw error;
          var details = Details.of(error);
          var backoff = (long) (Math.min(100 << attempt, 5000) * ThreadLocalRandom.current().nextDouble(0.5, 1));
          // Never earlier than the service requests.
          var pause = Math.max(backoff, details.retryDelay.toMillis());
          System.err.printf("%s %s: retrying in %d ms%n", code, details.reason, pause);
          Thread.sleep(pause);
        }
      }
    }
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

  private static List<List<Object>> keyBytes(List<Coin> coins) {
    return coins.stream().map(coin -> List.<Object>of(coin.getKeyId(), coin.getPublicKey(), coin.getSignature())).toList();
  }

  private static String json(Stream<?> names) {
    return names.map(name -> "\"" + name + "\"").collect(Collectors.joining(",", "[", "]"));
  }

  public static void main(String[] arguments) throws Exception {
    var channel = Grpc.newChannelBuilder(System.getenv("COIN_SERVICE_ADDRESS"), InsecureChannelCredentials.create()).build();
    var stub = CoinServiceGrpc.newBlockingStub(channel);
    var owner = new User(stub, System.getenv("OWNER_TOKEN"));
    var requester = new User(stub, System.getenv("REQUESTER_TOKEN"));

    var tiers = Stream.of(mint(CoinCategory.COIN_CATEGORY_GOLD, 2), mint(CoinCategory.COIN_CATEGORY_SILVER, 1),
        mint(CoinCategory.COIN_CATEGORY_BRONZE, 3));
    var coins = tiers.flatMap(tier -> tier).toList();
    var upload = UploadCoinsRequest.newBuilder().addAllCoins(coins).build();
    var uploaded = owner.call(service -> service.uploadCoins(upload));

    // The request_id makes the fetch repeatable: after a lost reply, the same call returns the same coins.
    var fetch = FetchCoinsRequest.newBuilder()
        .setTargetUserId(System.getenv("OWNER_ID"))
        .setCoinCategory(CoinCategory.COIN_CATEGORY_GOLD)
        .setCount(3)
        .setRequestId(UUID.randomUUID().toString())
        .setAllowLowerCategories(true)
        .build();
    var fetched = requester.call(service -> service.fetchCoins(fetch)).getCoinsList();
    var repeated = requester.call(service -> service.fetchCoins(fetch)).getCoinsList();

    var count = GetInventoryCountRequest.getDefaultInstance();
    var left = owner.call(service -> service.getInventoryCount(count)).getAvailable();

    var refused = "null";
    try {
      requester.call(service -> service.fetchCoins(FetchCoinsRequest.newBuilder().setTargetUserId("not-a-uuid").build()));
    } catch (StatusRuntimeException error) {
      var details = Details.of(error);
      refused = "{\"code\":%d,\"reason\":\"%s\",\"fields\":%s}"
          .formatted(error.getStatus().getCode().value(), details.reason, json(details.fields.stream()));
    }
    channel.shutdownNow();

    // ALREADY_PRESENT is a success as well: a repeated upload returns it if the first reply was lost.
    var stored = uploaded.getResultsList().stream().filter(result -> STORED.contains(result.getOutcome())).count();
    System.out.printf(
        "{\"uploaded\":%d,\"fetched\":%s,\"fetched_as_uploaded\":%b,\"repeat_is_the_same\":%b,"
            + "\"left\":{\"gold\":%d,\"silver\":%d,\"bronze\":%d},\"refused\":%s}%n",
        stored, json(fetched.stream().map(Coin::getCoinCategory)),
        keyBytes(fetched).equals(keyBytes(coins.subList(0, 3))), keyBytes(repeated).equals(keyBytes(fetched)),
        left.getGold(), left.getSilver(), left.getBronze(), refused);
  }
}

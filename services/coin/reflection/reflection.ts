import { createFileRegistry, type DescFile, type FileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { DESCRIPTOR_SET } from '../../../gen/descriptor_set';
import {
  type ServerReflectionRequest,
  ServerReflectionResponse,
  ServerReflectionService,
} from '../../../gen/grpc/reflection/v1/reflection';
import { DomainError, RateLimitedError } from '../errors';
import { toStatus } from '../rpc/status';
import { withSmallRequests } from './small-requests';

type Response = NonNullable<ServerReflectionResponse['messageResponse']>;
type Call = ServerDuplexStream<ServerReflectionRequest | DomainError, Uint8Array>;

/**
 * Limits the answers to a client, because reflection needs no token.
 * @param peer address and port of the client
 * @returns the time after which the next answer may be given, in milliseconds
 * @throws RateLimitedError
 */
export type AdmitReflection = (peer: string) => number;

/**
 * Maximum number of questions in one stream. A client asks for the list of services and then for
 * each of them; the largest answer has 21 KB.
 */
const MAX_QUESTIONS = 100;

/** The time after which a stream is ended whose client gets too many answers, in milliseconds. */
const LATE_MS = 5000;

/**
 * Files that no served file imports, of the details of errors. Tools that load the file of a service
 * and then ask nothing more need them to show these details.
 */
const ERROR_FILES = ['google/rpc/status.proto', 'google/rpc/error_details.proto'];

/**
 * Implements gRPC server reflection for our descriptor set, for tools such as grpcurl. It is
 * written by hand because
 * @grpc/reflection omits the imported files, which real clients need.
 *
 * It needs no token, so an answer must not cost more than its question: answers are serialized
 * once, without the comments of the files, and the next question of a stream is read when its last
 * answer was sent. Answers beyond a rate wait.
 */
export class Reflection {
  readonly #registry: FileRegistry;
  readonly #services: string[];
  readonly #admit: AdmitReflection | undefined;
  /** Serialized answers, by the name of the file that was asked for. */
  readonly #files = new Map<string, Uint8Array>();
  readonly #calls = new Set<Call>();

  /**
   * @param services full names of the services to list
   * @param admit undefined: the answers are not limited
   */
  constructor(services: string[], admit?: AdmitReflection) {
    const set = fromBinary(FileDescriptorSetSchema, DESCRIPTOR_SET);
    for (const file of set.file) file.sourceCodeInfo = undefined;
    this.#registry = createFileRegistry(set);
    this.#services = services;
    this.#admit = admit;
  }

  /**
   * Returns the reflection service as v1 and as v1alpha, which older clients use. Both have the
   * same messages. Its responses are bytes.
   */
  definitions(): ServiceDefinition[] {
    const { serverReflectionInfo } = withSmallRequests(ServerReflectionService);
    return ['v1', 'v1alpha'].map((version) => ({
      serverReflectionInfo: {
        ...serverReflectionInfo,
        path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        responseSerialize: ({ buffer, byteOffset, byteLength }: Uint8Array) =>
          Buffer.from(buffer, byteOffset, byteLength),
      },
    }));
  }

  implementation(): UntypedServiceImplementation {
    return { serverReflectionInfo: (call: Call) => this.#serve(call) };
  }

  /** Ends all open streams, after the answers that are being sent. */
  end(): void {
    for (const call of this.#calls) call.end();
  }

  #serve(call: Call): void {
    this.#calls.add(call);
    call.on('cancelled', () => this.#calls.delete(call));
    let questions = 0;
    /** True while an answer waits until it may be given. */
    let isWaiting = false;
    let hasEnded = false;
    call.on('data', (request: ServerReflectionRequest | DomainError) => {
      if (call.writableEnded) return;
      questions += 1;
      if (request instanceof DomainError) call.emit('error', toStatus(request));
      else if (questions > MAX_QUESTIONS) {
        call.emit('error', toStatus(new RateLimitedError(1000, 'questions in one reflection stream')));
      } else {
        call.pause();
        isWaiting = true;
        this.#whenAdmitted(call, () => {
          isWaiting = false;
          call.write(this.#answer(request), () => call.resume());
          if (hasEnded) call.end();
        });
      }
    });
    call.on('end', () => {
      hasEnded = true;
      if (!isWaiting) call.end();
    });
  }

  /** Answers at once, or later while the client gets too many answers. */
  #whenAdmitted(call: Call, answer: () => void): void {
    let waitMs: number;
    try {
      waitMs = this.#admit?.(call.getPeer()) ?? 0;
    } catch (error) {
      // Refused as late as it would be answered, or the client would ask again at once.
      setTimeout(() => call.emit('error', toStatus(error)), LATE_MS).unref();
      return;
    }
    if (waitMs === 0) answer();
    else setTimeout(() => call.writableEnded || call.cancelled || answer(), waitMs).unref();
  }

  #answer(request: ServerReflectionRequest): Uint8Array {
    const head = { validHost: request.host, originalRequest: request };
    const encode = (messageResponse: Response | undefined) =>
      ServerReflectionResponse.encode({ ...head, messageResponse }).finish();
    const response = this.#respond(request.messageRequest);
    // A serialized message may be split between any two fields.
    return response instanceof Uint8Array ? Buffer.concat([encode(undefined), response]) : encode(response);
  }

  /** Returns the answer to a question, or its serialized fields if it holds files. */
  #respond(request: ServerReflectionRequest['messageRequest']): Response | Uint8Array {
    switch (request?.$case) {
      case 'listServices':
        return { $case: 'listServicesResponse', value: { service: this.#services.map((name) => ({ name })) } };
      case 'fileByFilename':
        return this.#withImports(this.#registry.getFile(request.value));
      case 'fileContainingSymbol':
        return this.#withImports(this.#fileOf(request.value));
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = request.value;
        return this.#withImports(this.#extensions(containingType).find((e) => e.number === extensionNumber)?.file);
      }
      case 'allExtensionNumbersOfType': {
        const extensionNumber = this.#extensions(request.value).map((extension) => extension.number);
        return { $case: 'allExtensionNumbersResponse', value: { baseTypeName: request.value, extensionNumber } };
      }
      default:
        return failure(status.INVALID_ARGUMENT, 'The kind of request is unknown.');
    }
  }

  /** Finds the file of a type, a service, or a member of one (method, field, enum value). */
  #fileOf(symbol: string): DescFile | undefined {
    const owner = symbol.slice(0, symbol.lastIndexOf('.'));
    return (this.#registry.get(symbol) ?? this.#registry.get(owner))?.file;
  }

  #extensions(typeName: string) {
    return [...this.#registry].filter((desc) => desc.kind === 'extension' && desc.extendee.typeName === typeName) as {
      file: DescFile;
      number: number;
    }[];
  }

  /** Responds with the file and, transitively, every file it imports. */
  #withImports(file: DescFile | undefined): Response | Uint8Array {
    if (!file) return failure(status.NOT_FOUND, 'No file of this server contains this symbol, file or extension.');
    let answer = this.#files.get(file.name);
    if (!answer) {
      const further = file.services.length > 0 ? ERROR_FILES.map((name) => this.#registry.getFile(name)) : [];
      answer = serialize([file, ...further.filter((found) => found !== undefined)]);
      this.#files.set(file.name, answer);
    }
    return answer;
  }
}

/** Serializes the answer that holds files and, transitively, every file they import. Each file precedes its imports. */
function serialize(wanted: readonly DescFile[]): Uint8Array {
  const files = new Set<DescFile>();
  const add = (found: DescFile): void => {
    if (files.has(found)) return;
    found.dependencies.forEach(add);
    files.add(found);
  };
  wanted.toReversed().forEach(add);
  const fileDescriptorProto = [...files]
    .reverse()
    .map(({ proto }) => Buffer.from(toBinary(FileDescriptorProtoSchema, proto)));
  return ServerReflectionResponse.encode({
    validHost: '',
    originalRequest: undefined,
    messageResponse: { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } },
  }).finish();
}

function failure(errorCode: status, errorMessage: string): Response {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}

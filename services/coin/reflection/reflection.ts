import { createFileRegistry, type DescFile, type FileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import {
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { DESCRIPTOR_SET } from '../../../gen/descriptor_set';
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from '../../../gen/grpc/reflection/v1/reflection';

type Response = NonNullable<ServerReflectionResponse['messageResponse']>;

/**
 * Implements gRPC server reflection for our descriptor set, for tools such as grpcurl. It is
 * written by hand because
 * @grpc/reflection omits the imported files, which real clients need.
 */
export class Reflection {
  readonly #registry: FileRegistry;
  readonly #services: string[];

  /** @param services full names of the services to list */
  constructor(services: string[]) {
    this.#registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, DESCRIPTOR_SET));
    this.#services = services;
  }

  /**
   * Returns the reflection service as v1 and as v1alpha, which older clients use. Both have the
   * same messages.
   */
  definitions(): ServiceDefinition[] {
    const { serverReflectionInfo } = ServerReflectionService;
    return ['v1', 'v1alpha'].map((version) => ({
      serverReflectionInfo: {
        ...serverReflectionInfo,
        path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      },
    }));
  }

  implementation(): UntypedServiceImplementation {
    return {
      serverReflectionInfo: (call: ServerDuplexStream<ServerReflectionRequest, ServerReflectionResponse>) => {
        call.on('data', (request: ServerReflectionRequest) => {
          call.write({
            validHost: request.host,
            originalRequest: request,
            messageResponse: this.#respond(request.messageRequest),
          });
        });
        call.on('end', () => call.end());
      },
    };
  }

  #respond(request: ServerReflectionRequest['messageRequest']): Response {
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
  #withImports(file: DescFile | undefined): Response {
    if (!file) return failure(status.NOT_FOUND, 'No file of this server contains this symbol, file or extension.');
    const files = new Map<string, FileDescriptorProto>();
    const add = (dependency: DescFile): void => {
      if (files.has(dependency.name)) return;
      files.set(dependency.name, dependency.proto);
      dependency.dependencies.forEach(add);
    };
    add(file);
    const fileDescriptorProto = [...files.values()].map((proto) =>
      Buffer.from(toBinary(FileDescriptorProtoSchema, proto)),
    );
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }
}

function failure(errorCode: status, errorMessage: string): Response {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}

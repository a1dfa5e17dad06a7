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

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

/**
 * Server reflection over our descriptor set, for grpcurl and its like. Written here because @grpc/reflection answers
 * without the imports that real clients ask for.
 */
export class Reflection {
  readonly #registry: FileRegistry;
  readonly #services: string[];

  /** @param services full names of what the server serves */
  constructor(services: string[]) {
    this.#registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, DESCRIPTOR_SET));
    this.#services = services;
  }

  /** The service in version v1, and in v1alpha, which older clients still ask for; the messages are the same. */
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
            messageResponse: this.#answer(request.messageRequest),
          });
        });
        call.on('end', () => call.end());
      },
    };
  }

  #answer(request: ServerReflectionRequest['messageRequest']): Answer {
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
        return failure(status.INVALID_ARGUMENT, 'The request asks for nothing that is known here.');
    }
  }

  /** A type, a service, or a member of one (method, field, enum value). */
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

  #withImports(file: DescFile | undefined): Answer {
    if (!file) return failure(status.NOT_FOUND, 'No file of this server holds that.');
    const files = new Map<string, FileDescriptorProto>();
    const add = (one: DescFile): void => {
      if (files.has(one.name)) return;
      files.set(one.name, one.proto);
      one.dependencies.forEach(add);
    };
    add(file);
    const fileDescriptorProto = [...files.values()].map((proto) =>
      Buffer.from(toBinary(FileDescriptorProtoSchema, proto)),
    );
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto } };
  }
}

function failure(errorCode: status, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}

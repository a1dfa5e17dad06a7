import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { categorySpec, isDeviceId } from '../coin';
import { type FieldViolation, InvalidFieldError } from '../errors';
import { isUuid } from '../uuid';

const CATEGORY_NAMES = COIN_CATEGORIES.map((spec) => `COIN_CATEGORY_${spec.name}`).join(', ');

/**
 * Collects all invalid fields of one request, so that the caller gets the whole list in one error.
 */
export class Violations {
  readonly #found: FieldViolation[] = [];

  add(field: string, description: string): void {
    this.#found.push({ field, description });
  }

  uuid(field: string, text: string): void {
    if (!isUuid(text)) this.add(field, 'must be a UUID, for example 3f0c9a52-7f5e-4c57-9d4b-0f6a4a1c2d3e');
  }

  /** Accepts an empty text too, which is the unnamed device. */
  device(field: string, text: string): void {
    if (text !== '' && !isDeviceId(text)) this.add(field, 'must be empty or a UUID other than the nil UUID');
  }

  category(field: string, value: number): void {
    if (!categorySpec(value)) this.add(field, `must be one of ${CATEGORY_NAMES}; ${value} is not`);
  }

  range(field: string, value: number, min: number, max: number): void {
    if (value < min || value > max) this.add(field, `must be between ${min} and ${max}; ${value} is not`);
  }

  size(field: string, bytes: Uint8Array, size: number, category: string): void {
    if (bytes.length !== size) this.add(field, `must have ${size} bytes for ${category}; it has ${bytes.length}`);
  }

  listSize(field: string, size: number, max: number, min = 1): void {
    if (size < min || size > max) this.add(field, `must hold ${min} to ${max} elements; it holds ${size}`);
  }

  /** @throws InvalidFieldError if there is any violation */
  throwIfAny(): void {
    if (this.#found.length > 0) throw new InvalidFieldError(this.#found);
  }
}

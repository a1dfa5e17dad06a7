/**
 * The typed client of the coin service, exported as `aqm-database/client`. It opens no storage. The flows that need one
 * (publishing, top-up, fetch on demand) are in `aqm-database/device`, and take the `CoinServiceClient` exported here.
 */

// Exported so that callers need no grpc-js of their own, which would have to be the same copy.
export { credentials, Metadata, status } from '@grpc/grpc-js';
export * from '../gen/aqm/coin/v1/coin';
export * from '../gen/aqm/coin/v1/coin_admin_service';
export { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
export * from '../gen/aqm/coin/v1/coin_service';
export { CoinServiceError, type FieldViolation } from './coin-service-error';
export { type CallSettings, type CoinServiceCalls, type CoinServiceSettings, connectCoinService } from './connect';

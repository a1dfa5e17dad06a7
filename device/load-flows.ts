// The flows are loaded at their first call: they load gRPC, which an application that only keeps keys does not need.
import type * as FetchForDevices from './flows/fetch-for-devices';
import type * as FetchOnDemand from './flows/fetch-on-demand';
import type * as PublishCoins from './flows/publish-coins';
import type * as ReconcileCoins from './flows/reconcile-coins';
import type * as TopUp from './flows/top-up';

export const fetchForDevices: typeof FetchForDevices.fetchForDevices = (...args) => {
  const flow: typeof FetchForDevices = require('./flows/fetch-for-devices');
  return flow.fetchForDevices(...args);
};

export const fetchOnDemand: typeof FetchOnDemand.fetchOnDemand = (...args) => {
  const flow: typeof FetchOnDemand = require('./flows/fetch-on-demand');
  return flow.fetchOnDemand(...args);
};

export const publishCoins: typeof PublishCoins.publishCoins = (...args) => {
  const flow: typeof PublishCoins = require('./flows/publish-coins');
  return flow.publishCoins(...args);
};

export const reconcileCoins: typeof ReconcileCoins.reconcileCoins = (...args) => {
  const flow: typeof ReconcileCoins = require('./flows/reconcile-coins');
  return flow.reconcileCoins(...args);
};

export const topUp: typeof TopUp.topUp = (...args) => {
  const flow: typeof TopUp = require('./flows/top-up');
  return flow.topUp(...args);
};

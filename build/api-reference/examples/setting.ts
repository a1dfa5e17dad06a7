import { connectCoinService } from 'aqm-database/client';

const { ADDRESS = '127.0.0.1:50051', BOB_TOKEN = '', ALICE_TOKEN = '', ADMIN_TOKEN = '' } = process.env;

// With TLS: { token, credentials: credentials.createSsl(), … }
export const bob = connectCoinService(ADDRESS, { token: () => BOB_TOKEN });
export const alice = connectCoinService(ADDRESS, { token: () => ALICE_TOKEN });
export const admin = connectCoinService(ADDRESS, { token: () => ADMIN_TOKEN });
export const BOB = process.env.BOB ?? '';

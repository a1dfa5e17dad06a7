#!/bin/sh
# Asks the service of this machine or container for its health, with the settings of the service in the environment.
#   aqm-health                           exit code 0: the process is sound
#   aqm-health aqm.coin.v1.CoinService   exit code 0: coins can be fetched
# Any other state is exit code 1. Needs grpc-health-probe (github.com/grpc-ecosystem/grpc-health-probe) on PATH.
set -eu

listen=${AQM_LISTEN:-127.0.0.1:50051}
port=${listen##*:}
case $listen in
  0.0.0.0:*) listen=127.0.0.1:$port ;;
  '[::]:'*) listen=[::1]:$port ;;
esac

set -- -addr="$listen" -service="${1:-}" -connect-timeout=3s -rpc-timeout=3s
# The certificate is not verified: on loopback no other machine can answer, and "localhost" is not in it.
if [ -n "${AQM_TLS_CERT_FILE:-}" ]; then set -- "$@" -tls -tls-no-verify; fi
# Under mutual TLS the check shows the service's own certificate, which the client authority must accept.
if [ -n "${AQM_TLS_CLIENT_CA_FILE:-}" ]; then
  set -- "$@" -tls-client-cert="$AQM_TLS_CERT_FILE" -tls-client-key="$AQM_TLS_KEY_FILE"
fi
grpc-health-probe "$@" || exit 1

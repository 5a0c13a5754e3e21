#!/bin/sh
# /var/lib/bitgram stays, also when the package is purged: it may hold money.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi

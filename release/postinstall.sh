#!/bin/sh
set -e
if [ "$1" = configure ]; then
  if ! getent passwd bitgram >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/bitgram --no-create-home --shell /usr/sbin/nologin --comment 'Bitgram daemon' bitgram
  fi
  # The unit makes the directory too; init needs it before the first start.
  install -d -m 0700 -o bitgram -g bitgram /var/lib/bitgram
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # An upgrade goes on with the new program. The first start is the
    # operator's, once there is an identity.
    systemctl try-restart bitgram.service
  fi
fi

#!/bin/sh
# After an install or uninstall on a running system: systemd and the bus read their files anew. $1 is DESTDIR, $2 "stop" or nothing.
set -eu

# Into a folder for a package, or in a container without systemd: nothing is running that should know.
if [ -n "$1" ] || [ ! -d /run/systemd/system ]; then exit 0; fi
if [ "${2:-}" = stop ]; then
  systemctl stop copyd.service 2>/dev/null || true
  # The unit's file is gone already; the link that enabled it is not.
  rm -f /etc/systemd/system/multi-user.target.wants/copyd-resume.service
fi
systemctl daemon-reload
# As the machine's own presets have it: whether interrupted copies go on when it starts is its administrator's to say.
if [ "${2:-}" != stop ]; then systemctl preset copyd-resume.service; fi
busctl --system call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig >/dev/null
# An old version that runs makes way; its jobs go on in the new one.
systemctl try-restart copyd.service

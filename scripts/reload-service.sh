#!/bin/sh
# After an install or uninstall on a running system: systemd and the bus read their files anew. $1 is DESTDIR; $2 what was done:
# install (nothing was there before), upgrade or uninstall.
set -eu

# Into a folder for a package, or in a container without systemd: nothing is running that should know.
if [ -n "$1" ] || [ ! -d /run/systemd/system ]; then exit 0; fi
if [ "$2" = uninstall ]; then
  systemctl stop copyd.service 2>/dev/null || true
  # The unit's file is gone already; the links that enabled it are not.
  rm -f /etc/systemd/system/multi-user.target.wants/copyd-resume.service
  rm -f /etc/systemd/user/default.target.wants/copyd-resume.service
fi
systemctl daemon-reload
# As the machine's own presets have it; and only once, for whoever disables it later means it.
if [ "$2" = install ]; then systemctl preset copyd-resume.service; fi
busctl --system call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig >/dev/null
# An old version that runs makes way; its jobs go on in the new one.
if [ "$2" != uninstall ]; then systemctl try-restart copyd.service; fi

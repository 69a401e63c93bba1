// Passing file descriptors over D-Bus is all that dbus-next wants usocket for, and copyd does not do it: requiring it fails as if absent.
throw new Error("usocket is not installed: copyd does not pass file descriptors over D-Bus");

// Callers among other mounts: refused by what is known of them, and only then.

import { expect } from "bun:test";
import { requireSameView } from "../../src/dbus/caller-view.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";

testUnless(unlessRoot(), "a number that is another user's process by now tells nothing of the caller", async () => {
  await using other = Bun.spawn(["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt && echo mounted && exec sleep 60"], {
    stdout: "pipe",
  });
  await other.stdout.getReader().read();
  const request = requestSchema.parse({ operation: "copy", sources: ["/etc/hostname"], destination: "/mnt/x" });
  await expect(requireSameView(other.pid, 0, request)).rejects.toMatchObject({ code: "sandboxed-caller" });
  await requireSameView(other.pid, 12_345, request);
  await requireSameView(null, 0, request);
  await requireSameView(other.pid, 0, requestSchema.parse({ ...request, destination: "/srv" }));
});

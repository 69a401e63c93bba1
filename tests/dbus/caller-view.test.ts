// Callers among other mounts: refused by what is known of them, and only then.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
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

testUnless(unlessRoot(), "a mount behind more of them than one read takes is seen as well", async () => {
  const name = "x".repeat(3000);
  const mounts = `for i in $(seq 30); do mount -t tmpfs ${name} /media; done; mount -t tmpfs none /mnt`;
  await using other = Bun.spawn(["unshare", "-m", "sh", "-c", `${mounts} && echo mounted && exec sleep 60`], { stdout: "pipe" });
  await other.stdout.getReader().read();
  expect(readFileSync(`/proc/${other.pid}/mountinfo`).length).toBeGreaterThan(80 * 1024);
  const request = requestSchema.parse({ operation: "copy", sources: ["/etc/hostname"], destination: "/mnt/x" });
  await expect(requireSameView(other.pid, 0, request)).rejects.toMatchObject({ code: "sandboxed-caller" });
  await requireSameView(other.pid, 0, requestSchema.parse({ ...request, destination: "/srv" }));
});

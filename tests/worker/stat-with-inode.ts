// A statx answer with a chosen inode, for what only looks at identities.

import { layout } from "../../src/ffi/layout.ts";
import { Stat } from "../../src/ffi/stat.ts";

/** Numbers beyond 2^32 fill the upper half too. */
export function statWithInode(inode: number, deviceMinor = 1): Stat {
  const bytes = new Uint8Array(layout.statx.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(layout.statx.stx_ino, inode % 2 ** 32, true);
  view.setUint32(layout.statx.stx_ino + 4, Math.floor(inode / 2 ** 32), true);
  view.setUint32(layout.statx.stx_dev_major, 8, true);
  view.setUint32(layout.statx.stx_dev_minor, deviceMinor, true);
  return Stat.owned(bytes);
}

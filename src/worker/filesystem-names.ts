// The names of filesystems by f_type of statfs(2), from linux/magic.h and the filesystems' own headers.

const names: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext2/3/4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x01021994, "tmpfs"],
  [0x858458f6, "ramfs"],
  [0x794c7630, "overlay"],
  [0x2fc12fc1, "zfs"],
  [0xca451a4e, "bcachefs"],
  [0xf2f52010, "f2fs"],
  [0x4d44, "vfat"],
  [0x2011bab0, "exfat"],
  [0x5346544e, "ntfs"],
  [0x7366746e, "ntfs3"],
  [0x65735546, "fuse"],
  [0x6969, "nfs"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x00c36400, "ceph"],
  [0x01021997, "9p"],
  [0x6a656a63, "virtiofs"],
  [0x0bd00bd0, "lustre"],
  [0x01161970, "gfs2"],
  [0x7461636f, "ocfs2"],
  [0x3153464a, "jfs"],
  [0x52654973, "reiserfs"],
  [0x3434, "nilfs2"],
  [0xe0f5e1e2, "erofs"],
  [0x73717368, "squashfs"],
  [0x9660, "iso9660"],
  [0x15013346, "udf"],
  [0x482b, "hfsplus"],
  [0x24051905, "ubifs"],
  [0x9fa0, "proc"],
  [0x62656572, "sysfs"],
  [0x1cd1, "devpts"],
  [0x27e0eb, "cgroup"],
  [0x63677270, "cgroup2"],
  [0x64626720, "debugfs"],
  [0x958458f6, "hugetlbfs"],
  [0xf15f, "ecryptfs"],
]);

/** "btrfs", or the number in hexadecimal for a filesystem nobody told copyd of. */
export function filesystemName(type: number): string {
  return names.get(type) ?? `0x${type.toString(16)}`;
}

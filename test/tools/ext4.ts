/**
 * The tables of an ext4 volume, as far as they say where files lie: made by hand, so that a test knows every byte.
 *
 * A disk of 64 MiB with one partition at 1 MiB, one group, file system blocks of 4 KiB.
 */
export const DISK_BLOCKS = 1024
export const PARTITION_BYTES = 1024 * 1024
const BLOCK_BYTES = 65_536
const FS_BLOCK_BYTES = 4096
const INODE_BYTES = 256
const INODES = 1024
/** Of the file system. */
const TABLE_BLOCK = 64

/** Where a file lies, in the file system's blocks: first and count of each extent. */
export type Extents = [first: number, count: number][]

export interface Ext4Options {
  gpt?: boolean
  /** In the superblock. */
  incompatible?: number
}

/** Where on the disk this block of the file system is. */
export function diskBytes(fsBlock: number): number {
  return PARTITION_BYTES + fsBlock * FS_BLOCK_BYTES
}

/** The disk's block with the superblock and the descriptors; and the one with these inodes. */
export const SUPERBLOCK = PARTITION_BYTES / BLOCK_BYTES
export function tableBlock(inode: number): number {
  return Math.floor((diskBytes(TABLE_BLOCK) + inode * INODE_BYTES) / BLOCK_BYTES)
}

/** @param files - by the number of their inode, from 0 */
export function ext4Disk(files: Map<number, Extents>, { gpt = false, incompatible = 0xc2 }: Ext4Options = {}): Buffer {
  const disk = Buffer.alloc(DISK_BLOCKS * BLOCK_BYTES)
  disk.writeUInt16LE(0xaa55, 510)
  if (gpt) {
    disk.write('EFI PART', 512, 'latin1')
    disk.writeBigUInt64LE(2n, 512 + 72)
    disk.writeUInt32LE(128, 512 + 80)
    disk.writeUInt32LE(128, 512 + 84)
    disk.writeBigUInt64LE(BigInt(PARTITION_BYTES / 512), 1024 + 128 + 32)
  } else disk.writeUInt32LE(PARTITION_BYTES / 512, 446 + 8)
  const superblock = disk.subarray(PARTITION_BYTES + 1024)
  superblock.writeUInt32LE((DISK_BLOCKS * BLOCK_BYTES - PARTITION_BYTES) / FS_BLOCK_BYTES, 4)
  superblock.writeUInt32LE(2, 24)
  superblock.writeUInt32LE(32_768, 32)
  superblock.writeUInt32LE(INODES, 40)
  superblock.writeUInt16LE(0xef53, 56)
  superblock.writeUInt16LE(INODE_BYTES, 88)
  superblock.writeUInt32LE(incompatible, 96)
  superblock.writeUInt16LE(64, 254)
  disk.writeUInt32LE(TABLE_BLOCK, diskBytes(1) + 8)
  for (const [number, extents] of files)
    writeFile(disk.subarray(diskBytes(TABLE_BLOCK) + number * INODE_BYTES), extents)
  return disk
}

function writeFile(inode: Buffer, extents: Extents): void {
  inode.writeUInt16LE(0o100644, 0)
  inode.writeUInt16LE(1, 26)
  inode.writeUInt32LE(0x80000, 32)
  inode.writeUInt16LE(0xf30a, 40)
  inode.writeUInt16LE(extents.length, 42)
  inode.writeUInt16LE(4, 44)
  for (const [index, [first, count]] of extents.entries()) {
    const at = 52 + index * 12
    inode.writeUInt16LE(count, at + 4)
    inode.writeUInt32LE(first, at + 8)
  }
}

export function blockOf(disk: Buffer, block: number): Uint8Array {
  return Uint8Array.from(disk.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))
}

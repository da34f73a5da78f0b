/**
 * What kind of file an image is, told by its first and last bytes.
 *
 * Everything that is not known to be something else is a raw disk. The other formats of virtual disks, and compressed
 * files, are told apart so that nobody publishes a container instead of the disk in it.
 */
import { RowanError } from '../errors.ts'
import { isQcow } from './qcow2-header.ts'

/** As much of a file's end as is looked at: one sector, where fixed VHD and DMG files have their mark. */
export const TAIL_BYTES = 512

interface Mark {
  name: string
  at: 'start' | 'end'
  offset: number
  bytes: Buffer
  /** QEMU's name for the format, when `qemu-img` converts it. */
  qemu?: string
}

const text = (value: string) => Buffer.from(value, 'latin1')

const MARKS: Mark[] = [
  { name: 'VMDK', at: 'start', offset: 0, bytes: text('KDMV'), qemu: 'vmdk' },
  { name: 'VMDK', at: 'start', offset: 0, bytes: text('COWD'), qemu: 'vmdk' },
  { name: 'VMDK', at: 'start', offset: 0, bytes: text('# Disk DescriptorFile'), qemu: 'vmdk' },
  { name: 'VHDX', at: 'start', offset: 0, bytes: text('vhdxfile'), qemu: 'vhdx' },
  { name: 'VHD', at: 'start', offset: 0, bytes: text('conectix'), qemu: 'vpc' },
  { name: 'VHD', at: 'end', offset: 0, bytes: text('conectix'), qemu: 'vpc' },
  { name: 'VDI', at: 'start', offset: 64, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]), qemu: 'vdi' },
  { name: 'QED', at: 'start', offset: 0, bytes: text('QED\0'), qemu: 'qed' },
  { name: 'Parallels', at: 'start', offset: 0, bytes: text('WithoutFreeSpace'), qemu: 'parallels' },
  { name: 'Parallels', at: 'start', offset: 0, bytes: text('WithouFreSpacExt'), qemu: 'parallels' },
  { name: 'DMG', at: 'end', offset: 0, bytes: text('koly'), qemu: 'dmg' },
  { name: 'gzip', at: 'start', offset: 0, bytes: Buffer.from([0x1f, 0x8b, 0x08]) },
  { name: 'xz', at: 'start', offset: 0, bytes: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) },
  { name: 'zstd', at: 'start', offset: 0, bytes: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]) },
  { name: 'bzip2', at: 'start', offset: 0, bytes: text('BZh') },
  { name: 'zip', at: 'start', offset: 0, bytes: Buffer.from([0x50, 0x4b, 0x03, 0x04]) }
]

/**
 * @param start - the first bytes of the file, 128 of them if it has as many
 * @param end - its last TAIL_BYTES
 * @param path - how to call the file in errors
 * @throws RowanError IMAGE_FORMAT for what can be recognised and not be published
 */
export function imageFormat(start: Uint8Array, end: Uint8Array, path: string): 'raw' | 'qcow2' {
  if (isQcow(start)) return 'qcow2'
  for (const { name, at, offset, bytes, qemu } of MARKS) {
    const found = (at === 'start' ? start : end).subarray(offset, offset + bytes.length)
    if (!bytes.equals(found)) continue
    const advice =
      qemu === undefined ? 'unpack it first' : `convert it first: qemu-img convert -f ${qemu} -O raw ${path} disk.raw`
    throw new RowanError('IMAGE_FORMAT', `${path} is a ${name} file, not a raw or qcow2 disk; ${advice}`)
  }
  return 'raw'
}

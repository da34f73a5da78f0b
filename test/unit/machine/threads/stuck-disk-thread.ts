/**
 * The thread of a disk whose host's disk does not answer: from when a guest has written STUCK on, no sync ends before somebody opens the
 * pipe in HANG for writing. It really waits in the system, as for a dying disk: such a thread cannot be ended. BLOCK: it is the disk's
 * own thread that waits there.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const { fdatasync, fdatasyncSync } = fs
let isStuck = false

const hang = () => process.env.HANG!
fs.fdatasync = ((descriptor: number, done: fs.NoParamCallback) => {
  if (!isStuck) return fdatasync(descriptor, done)
  fs.open(hang(), 'r', (_error, pipe) => fs.close(pipe, () => fdatasync(descriptor, done)))
}) as typeof fs.fdatasync
fs.fdatasyncSync = descriptor => {
  if (isStuck) fs.closeSync(fs.openSync(hang(), 'r'))
  fdatasyncSync(descriptor)
}
syncBuiltinESMExports()

const { RowanDisk } = await import('../../../../src/disk/rowan-disk.ts')
const write = RowanDisk.prototype.write
RowanDisk.prototype.write = function stickingWrite(offset, data, options) {
  const word = Buffer.from(data.subarray(0, 5)).toString()
  if (word === 'STUCK') isStuck = true
  if (word === 'BLOCK') setTimeout(() => fs.closeSync(fs.openSync(hang(), 'r')), 20)
  return write.call(this, offset, data, options)
}

await import('../../../../src/node/disk-thread-main.ts')

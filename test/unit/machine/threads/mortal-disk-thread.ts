/**
 * The thread of a disk that dies when a guest writes the right words. The write itself is done, and answered.
 */
import { RowanDisk } from '../../../../src/disk/rowan-disk.ts'

/** Long enough for the answer to have left. */
const DYING_MS = 20
const write = RowanDisk.prototype.write

RowanDisk.prototype.write = function dyingWrite(offset, data, options) {
  const word = Buffer.from(data.subarray(0, 7)).toString()
  if (word === 'EXPLODE') setTimeout(explode, DYING_MS)
  if (word === 'EXHAUST') setTimeout(exhaust, DYING_MS)
  return write.call(this, offset, data, options)
}

function explode(): void {
  throw new Error('this disk has exploded')
}

function exhaust(): void {
  const kept: object[] = []
  for (;;) kept.push({ number: kept.length, text: `${kept.length}` })
}

await import('../../../../src/node/disk-thread-main.ts')
